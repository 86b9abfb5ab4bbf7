"""Variables that Azure Pipelines sets itself, and the computers of its pool."""

from __future__ import annotations

BEFORE_THE_RUN = (
    "Build.DefinitionName", "Build.Reason", "Build.Repository.Name", "Build.SourceBranch", "Build.SourceBranchName",
    "Build.SourceVersion", "System.CollectionUri", "System.TeamProject", "System.PullRequest.TargetBranch",
)  # fmt: skip
"""Known while templates are expanded."""
IN_THE_RUN = (
    *BEFORE_THE_RUN,
    "Agent.BuildDirectory", "Agent.HomeDirectory", "Agent.Id", "Agent.JobName", "Agent.JobStatus", "Agent.MachineName",
    "Agent.Name", "Agent.OS", "Agent.OSArchitecture", "Agent.TempDirectory", "Agent.ToolsDirectory", "Agent.WorkFolder",
    "Build.ArtifactStagingDirectory", "Build.BinariesDirectory", "Build.BuildId", "Build.BuildNumber", "Build.BuildUri",
    "Build.RequestedFor", "Build.SourcesDirectory", "Build.StagingDirectory", "Build.SourceVersionMessage",
    "Common.TestResultsDirectory", "Environment.Name", "Pipeline.Workspace", "System.AccessToken",
    "System.DefaultWorkingDirectory",
    "System.DefinitionId", "System.JobAttempt", "System.JobDisplayName", "System.JobId", "System.JobName",
    "System.OidcRequestUri",
    "System.PhaseName", "System.PipelineId", "System.PlanId", "System.PullRequest.PullRequestId",
    "System.PullRequest.SourceBranch",
    "System.StageAttempt", "System.StageName", "System.StageDisplayName", "System.TeamFoundationCollectionUri",
    "System.TeamProjectId", "System.TimelineId", "TF_BUILD",
)  # fmt: skip
"""Known while a job runs."""
SECRET = ("System.AccessToken",)
RESOURCE_FIELDS = (
    "projectID", "projectName", "pipelineName", "pipelineID", "runName", "runID", "runURI", "sourceBranch", "sourceCommit",
    "sourceProvider", "requestedFor", "requestedForID",
)  # fmt: skip
"""Of ``resources.pipeline.ALIAS.…``."""
IMAGES = (
    "ubuntu-latest",
    "ubuntu-24.04",
    "ubuntu-22.04",
    "windows-latest",
    "windows-2025",
    "windows-2022",
    "macOS-latest",
)
"""Of Microsoft's pool; ubuntu-20.04 and older ones are gone."""


def environment_name(variable: str) -> str:
    """The variable of the environment that a script finds a variable in."""
    return variable.upper().replace(".", "_").replace(" ", "_")
