"""What the runs of a process of tests have left in Prefect's database for its pages."""

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import ArtifactSort


def made() -> list[Artifact]:
    """All artifacts in order of their creation; Prefect gives a part of them at a time."""
    found: list[Artifact] = []
    with get_client(sync_client=True) as client:
        while part := client.read_artifacts(sort=ArtifactSort.CREATED_DESC, offset=len(found)):
            found += part
    return found[::-1]
