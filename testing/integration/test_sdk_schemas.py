"""Our models of the YAML against the schemas with which Azure ML's SDK reads it: keys, required ones, and what they take.

So that a key or value which a new version of the SDK brings, or which nobody thought of, shows here and not at a user's.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from vision_mlops.jobs.definitions.models import base_model, ports, schedule, steps, sweep

# Ours, and the schemas that read the same: a mapping that ours takes must be taken by one of them.
PAIRS: dict[type[BaseModel], tuple[str, ...]] = {
    steps.CommandJob: ("job.command_job:CommandJobSchema",),
    steps.SweepJob: ("_sweep.sweep_job:SweepJobSchema",),
    steps.TrialDefinition: ("job.parameterized_command:ParameterizedCommandSchema",),
    steps.PipelineJob: ("pipeline.pipeline_job:PipelineJobSchema",),
    steps.PipelineSettings: ("pipeline.settings:PipelineJobSettingsSchema",),
    steps.CommandComponent: ("component.command_component:CommandComponentSchema",),
    steps.ParallelComponent: ("component.parallel_component:ParallelComponentSchema",),
    steps.PipelineComponent: ("pipeline.pipeline_component:PipelineComponentSchema",),
    steps.ComponentStep: (
        "pipeline.component_job:CommandSchema", "pipeline.component_job:ParallelSchema",
        "pipeline.pipeline_component:PipelineSchema",
    ),
    steps.CommandStep: ("pipeline.pipeline_command_job:PipelineCommandJobSchema",),
    steps.ParallelStep: ("pipeline.pipeline_parallel_job:PipelineParallelJobSchema",),
    steps.SweepStep: ("pipeline.component_job:SweepSchema",),
    steps.ParallelTask: ("component.parallel_task:ComponentParallelTaskSchema",),
    steps.Retry: ("component.retry_settings:RetrySettingsSchema",),
    base_model.JobLimits: ("job.job_limits:CommandJobLimitsSchema",),
    base_model.Resources: (
        "job_resource_configuration:JobResourceConfigurationSchema",
        "component.resource:ComponentResourceSchema",
    ),
    base_model.PyTorch: ("job.distribution:PyTorchDistributionSchema",),
    base_model.Mpi: ("job.distribution:MPIDistributionSchema",),
    base_model.TensorFlow: ("job.distribution:TensorFlowDistributionSchema",),
    base_model.Ray: ("job.distribution:RayDistributionSchema",),
    base_model.JobIdentity: (
        "job.identity:ManagedIdentitySchema", "job.identity:AMLTokenIdentitySchema", "job.identity:UserIdentitySchema",
    ),
    base_model.Environment: ("assets.environment:EnvironmentSchema", "assets.environment:AnonymousEnvironmentSchema"),
    base_model.QueueSettings: ("queue_settings:QueueSettingsSchema",),
    base_model.InferenceConfig: ("assets.environment:InferenceConfigSchema",),
    base_model.Route: ("assets.environment:RouteSchema",),
    base_model.Build: ("assets.environment:BuildContextSchema",),
    sweep.SweepLimits: ("job.job_limits:SweepJobLimitsSchema",),
    sweep.Objective: ("_sweep.sweep_objective:SweepObjectiveSchema",),
    sweep.Sampling: (
        "_sweep.sweep_sampling_algorithm:RandomSamplingAlgorithmSchema",
        "_sweep.sweep_sampling_algorithm:GridSamplingAlgorithmSchema",
        "_sweep.sweep_sampling_algorithm:BayesianSamplingAlgorithmSchema",
    ),
    sweep.Bandit: ("_sweep.sweep_termination:BanditPolicySchema",),
    sweep.MedianStopping: ("_sweep.sweep_termination:MedianStoppingPolicySchema",),
    sweep.Truncation: ("_sweep.sweep_termination:TruncationSelectionPolicySchema",),
    sweep.Choice: ("_sweep.search_space.choice:ChoiceSchema",),
    sweep.Uniform: ("_sweep.search_space.uniform:UniformSchema",),
    sweep.QUniform: ("_sweep.search_space.uniform:QUniformSchema",),
    sweep.Normal: ("_sweep.search_space.normal:NormalSchema",),
    sweep.QNormal: ("_sweep.search_space.normal:QNormalSchema",),
    sweep.RandInt: ("_sweep.search_space.randint:RandintSchema",),
    schedule.Schedule: ("schedule.schedule:JobScheduleSchema", "monitoring.schedule:MonitorScheduleSchema",
        "_data_import.schedule:ImportDataScheduleSchema"),
    schedule.Cron: ("schedule.trigger:CronTriggerSchema",),
    schedule.Recurrence: ("schedule.trigger:RecurrenceTriggerSchema",),
    schedule.Pattern: ("schedule.trigger:RecurrencePatternSchema",),
    ports.InputDeclaration: ("component.input_output:ParameterSchema", "component.input_output:InputPortSchema"),
    ports.OutputDeclaration: ("component.input_output:OutputPortSchema", "component.input_output:PrimitiveOutputSchema"),
    ports.JobInput: (
        "job.input_output_entry:DataInputSchema", "job.input_output_entry:ModelInputSchema",
        "job.input_output_entry:MLTableInputSchema", "job.input_output_entry:InputLiteralValueSchema",
    ),
    ports.JobOutput: ("job.input_output_entry:OutputSchema",),
}  # fmt: skip

# Keys that the SDK takes and ours do not, or only with a warning, and why.
NOT_OURS = {
    (steps.ComponentStep, key): "the SDK reads them at a step and takes the component's own"
    for key in ("code", "command", "input_data", "partition_keys", "task")
} | {(steps.ParallelStep, "environment"): "a parallel step has its environment in its task"}
# Read by the SDK as part of something that lets unknown keys pass: no mistake, whether ours know them or not.
OPEN = {
    steps.ComponentStep, steps.CommandStep, steps.ParallelStep, steps.SweepStep, steps.PipelineSettings,
    steps.CommandComponent, steps.ParallelComponent, steps.PipelineComponent, ports.OutputDeclaration,
}  # fmt: skip
REPORTED_APART = {(ports.InputDeclaration, "path"): "has an error of its own"}
# Required by ours alone.
REQUIRED_HERE = {
    (steps.SweepJob, "search_space"): "the SDK falls over it while it converts the job",
    (steps.SweepStep, "search_space"): "as of a job",
    (steps.PipelineJob, "type"): "without it the SDK reads a command job",
    (steps.PipelineComponent, "type"): "without it the SDK reads a command component",
    (steps.ParallelStep, "type"): "tells the step from others",
    (steps.SweepStep, "type"): "tells the step from others",
    (steps.PipelineComponent, "jobs"): "nothing to run",
    (steps.ParallelComponent, "task"): "nothing to run",
    (steps.ParallelStep, "task"): "nothing to run",
    (steps.ParallelTask, "entry_script"): "nothing to run",
    (steps.CommandStep, "environment"): "the SDK refuses the step when it validates",
    (base_model.Build, "path"): "nothing to build",
    (sweep.Choice, "values"): "nothing to choose",
    (schedule.Schedule, "trigger"): "the SDK cannot make the schedule",
}
# Required by the SDK alone.
REQUIRED_THERE = {
    (kind, "name"): "a warning, component-name: a pipeline runs the file without it"
    for kind in (steps.CommandComponent, steps.ParallelComponent, steps.PipelineComponent)
}
WORDS_APART = {
    (ports.InputDeclaration, "type"): {"path"},  # of v1
    (ports.OutputDeclaration, "type"): {"path"},
}
# Parts that ours leave to the SDK.
LEFT_TO_IT = {
    "DeleteSettings",
    "AutoDeleteSetting",
    "JobService",
    "Monitor",
    "Flow",
    "IntellectualProperty",
    "Spark",
    "AutoML",
    "Image",
    "Import",
    "DataTransfer",
    "CreateJob",
    "CreationContext",
}


def schema(name: str) -> Any:
    """A schema of the SDK, by its module and class."""
    module, _, kind = name.partition(":")
    made = getattr(import_module(f"azure.ai.ml._schema.{module}"), kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the SDK still uses of marshmallow
        try:
            return made(context={"base_path": "."})
        except TypeError:  # those that read no files
            return made()


def read_there(ours: type[BaseModel]) -> dict[str, list[Any]]:
    """Fields of the SDK that read the keys of a mapping, by key."""
    found: dict[str, list[Any]] = {}
    for name in PAIRS[ours]:
        for key, field in schema(name).fields.items():
            if not field.dump_only:
                found.setdefault(field.data_key or key, []).append(field)
    return found


def read_here(ours: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field for name, field in ours.model_fields.items()}


def below(field: Any) -> Iterator[Any]:
    """A field, and those that it is made of."""
    yield field
    inner = getattr(field, "_union_fields", None) or [
        getattr(field, name, None) for name in ("experimental_field", "inner", "value_field")
    ]
    for item in inner:
        if item is not None:
            yield from below(item)


def words(annotation: Any) -> set[str]:
    """Words that one of ours takes."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    return {word for part in get_args(annotation) for word in words(part)}


def ids(ours: type[BaseModel]) -> str:
    return ours.__name__


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """The SDK says of each experimental field that it is one."""
    logger = logging.getLogger("azure.ai.ml")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


@pytest.mark.parametrize("ours", PAIRS, ids=ids)
def test_keys(ours: type[BaseModel]) -> None:
    there, here = read_there(ours), read_here(ours)
    assert {key for key in there if key not in here} == {key for kind, key in NOT_OURS if kind is ours}
    if ours not in OPEN:
        apart = {key for kind, key in REPORTED_APART if kind is ours}
        assert {key for key in here if key not in there} == apart | ({"$schema"} & set(here))


@pytest.mark.parametrize("ours", [ours for ours in PAIRS if ours not in OPEN], ids=ids)
def test_keys_that_are_read_over(ours: type[base_model.DefinitionModel]) -> None:
    """What the service fills in, and the SDK throws away before it reads a file."""
    thrown = set()
    for name in PAIRS[ours]:
        made = schema(name)
        if hasattr(made, "trim_dump_only"):
            thrown |= {field.data_key or key for key, field in made.fields.items() if field.dump_only}
    assert thrown - {"$schema"} - set(read_there(ours)) == ours.read_only_keys - set(read_there(ours))


@pytest.mark.parametrize("ours", PAIRS, ids=ids)
def test_required_keys(ours: type[BaseModel]) -> None:
    schemas = [schema(name) for name in PAIRS[ours]]
    sets = [{field.data_key or key for key, field in made.fields.items() if field.required} for made in schemas]
    there = set.intersection(*sets) - {"component"} if ours is not steps.ComponentStep else {"component"}
    here = {key for key, field in read_here(ours).items() if field.is_required()}
    assert here - there == {key for kind, key in REQUIRED_HERE if kind is ours}
    assert there - here == {key for kind, key in REQUIRED_THERE if kind is ours}


@pytest.mark.parametrize("ours", PAIRS, ids=ids)
def test_words(ours: type[BaseModel]) -> None:
    """Where the SDK takes some words, ours take the same; where it takes texts beside them, ours take texts."""
    from azure.ai.ml._schema.core.fields import StringTransformedEnum

    there = read_there(ours)
    for key, field in read_here(ours).items():
        fields = [item for top in there.get(key, []) for item in below(top)]
        lists = [item for item in fields if isinstance(item, StringTransformedEnum)]
        own = words(field.annotation)
        if not own:
            free = [item for item in fields if type(item).__name__ in ("ArmStr", "String")]
            assert not lists or free, f"{key}: the SDK takes {[item.allowed_values for item in lists]}"
            continue
        allowed = {word for item in lists for word in item.allowed_values}
        spelt = {item.casing_transform(word) for item in lists[:1] for word in own}
        assert allowed - spelt == WORDS_APART.get((ours, key), set()), key
        assert spelt <= allowed, key


@pytest.mark.parametrize("ours", PAIRS, ids=ids)
def test_texts_by_name(ours: type[BaseModel]) -> None:
    """Tags and properties whose values must be text there are no mappings of anything here."""
    from marshmallow import fields

    there = read_there(ours)
    for key, field in read_here(ours).items():
        tops = [top for top in there.get(key, []) if isinstance(top, fields.Dict)]
        if tops and all({type(item) for item in below(top)} == {fields.Dict, fields.String} for top in tops):
            assert Any not in get_args(get_args(field.annotation)[0]), key


@pytest.mark.slow
def test_every_part_has_a_model_of_ours() -> None:
    """Whatever schema one of the pairs leads to is in a pair as well."""
    from marshmallow import fields

    known = {name.partition(":")[2] for names in PAIRS.values() for name in names}
    unknown = set()
    for ours in PAIRS:
        for tops in read_there(ours).values():
            for item in (item for top in tops for item in below(top)):
                if isinstance(item, fields.Nested):
                    name = type(item.schema).__name__.removeprefix("Anonymous")
                    unknown |= {name} if name not in known else set()
    assert {name for name in unknown if not any(word in name for word in LEFT_TO_IT)} == set()
