"""`recording join`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proxy.cli.common import FAILED, console, errors

recording = typer.Typer(help="Recordings that more than one backend has written.", no_args_is_help=True)


@recording.command()
def join(
    manifest: Annotated[Path, typer.Argument(help="The JSON file beside the audio.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.wav", help="The file to be made.")],
) -> None:
    """Make one wav file of all segments of a recording, with silence where nobody has the sound."""
    from proxy.recordings.files import AudioFileError
    from proxy.recordings.join import join as put_together
    from proxy.recordings.manifest import ManifestError

    try:
        seconds = put_together(manifest, target)
    except (ManifestError, AudioFileError, OSError) as error:
        errors.print(str(error))
        raise typer.Exit(FAILED) from None
    console.print(f"{target}: {seconds:.1f} s")
