"""Azure DevOps pipelines on this machine: their templates expanded, their references checked, their steps executed.

It follows Microsoft's documentation of Azure Pipelines and was never compared with the service. What it does not know, it
refuses: an unknown task, function, key or predefined variable is an error, never nothing.

``pipeline_files`` and ``expression`` read, ``template_expansion`` expands, ``pipeline_model`` says what is left;
``reference_checks`` and ``script_lines`` find what points nowhere; ``handed_over``, ``delivery_rules`` and ``job_rules``
find what is spelled well and means something else, such as those of ``planted_mistakes``; ``agent_job`` and ``pipeline_run``
execute in an ``organisation``.
"""
