"""The composition root: a project's folders become one Dagster `Definitions`.

The project is the folder named by `SYNC_PROJECT`, else the current directory; never the place this
package is installed in.
"""

from __future__ import annotations

import os
import warnings

import dagster as dg
from dagster._utils.warnings import BetaWarning, PreviewWarning
from dagster.components.core.component_tree import ComponentTree

from sync_platform.components.alert_sensors import alert_sensors
from sync_platform.components.installation import Installation
from sync_platform.components.purging import purge, purge_schedule
from sync_platform.components.source import staging_definitions, staging_key
from sync_platform.components.sync import streams_read
from sync_platform.components.upkeep import upkeep_definitions
from sync_platform.engine.spec import Endpoint
from sync_platform.project import PROJECT_VARIABLE, Project


@dg.definitions
def defs() -> dg.Definitions:
    """Everything the project declares, and a default Source for each stream that none declares."""
    return load(Project.current())


def load(project: Project) -> dg.Definitions:
    """The definitions of one project; needs no secret and no network."""
    os.environ[PROJECT_VARIABLE] = str(project.root)  # components and runs ask for the current project
    project.load_environment()
    project.importable()
    for noise in (BetaWarning, PreviewWarning):  # of Dagster's own component loader
        warnings.filterwarnings("ignore", category=noise)
    declared = dg.Definitions.merge(
        ComponentTree.for_project(project.root).build_defs(),
        upkeep_definitions(),
        dg.Definitions(
            resources={"installation": Installation()},
            executor=dg.in_process_executor,
            jobs=[purge],
            schedules=[purge_schedule],
            sensors=alert_sensors(),
        ),
    )
    known = {
        staging_key(Endpoint(connection=source.connection, object=stream.object))
        for source in project.sources.values()
        for stream in source.streams
    }
    missing = {
        staging_key(endpoint): endpoint
        for sync in project.syncs.values()
        for endpoint in streams_read(sync.spec)
        if staging_key(endpoint) not in known
    }
    implied = [staging_definitions(endpoint, project.stream_options(endpoint)) for endpoint in missing.values()]
    return dg.Definitions.merge(declared, *implied) if implied else declared
