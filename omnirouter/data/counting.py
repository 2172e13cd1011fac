"""How many frames every utterance will have, from the headers of its audio: for features that are not stored."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from omnirouter.data.audio import AudioInfo, readable_audio, resampled_length, segment_frames
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import SAMPLE_RATE_HZ, frame_count
from omnirouter.data.files import atomic_write
from omnirouter.data.jobs import run_jobs
from omnirouter.data.parsing import parse_recording
from omnirouter.data.sources import AudioBlock, AudioTables
from omnirouter.data.stored import job_files, remove_job_files, remove_stored, set_aside_foreign
from omnirouter.data.streams import read_blocks

HEADER = np.dtype([("rate_hz", np.int64), ("frames", np.int64), ("readable_frames", np.int64)])


def count_frames(
    data_dir: Path, output: Path, jobs: int, job_prefix: Sequence[str] = (), allow_pipes: bool = False
) -> int:
    """Count the frames of a data directory's utterances, exactly as `fbank` will make them; returns their sum.

    Writes utt2num_frames, then removes feats.scp and its archives in the folder `output`, whose absence says that
    features are computed when they are needed; a feats.scp of other features is moved to .backup/ instead. Each
    recording's header is read once, by `jobs` parallel jobs.
    """
    recordings = _recordings(data_dir)
    jobs = max(1, min(jobs, recordings))
    output.mkdir(parents=True, exist_ok=True)
    remove_job_files(output, "headers")
    base = [sys.executable, "-m", "omnirouter.bin.compute_fbank", str(data_dir), "--output", str(output)]
    base += ["--features", "on_the_fly", *(["--allow-pipes"] if allow_pipes else [])]
    commands = [[*base, "--job", f"{j}/{jobs}"] for j in range(1, jobs + 1)]
    logs = [output / "log" / f"headers.{j}.log" for j in range(1, jobs + 1)]
    with tqdm(total=recordings, desc=f"headers {data_dir}", unit="file", file=sys.stderr, disable=None) as bar:
        run_jobs(commands, logs, job_prefix, on_poll=lambda: bar.update(_count_done(output) - bar.n))
    headers = np.concatenate([np.fromfile(output / f"headers.{j}", HEADER) for j in range(1, jobs + 1)])
    frames = _write_counts(data_dir, output, headers)
    remove_job_files(output, "headers")
    remove_stored(data_dir, output)
    return frames


def run_count_job(data_dir: Path, output: Path, job: int, jobs: int, allow_pipes: bool = False) -> None:
    """Read the headers of the job-th of `jobs` equal parts of the recordings (job counts from 1)."""
    recordings, number = _recordings(data_dir), 0
    part = range(recordings * (job - 1) // jobs, recordings * job // jobs)
    path = output / f"headers.{job}"
    with open(f"{path}.tmp", "wb", buffering=1024 * HEADER.itemsize) as file:
        for keys, (values,) in read_blocks([data_dir / "wav.scp"]):
            for key, value in zip(keys, values, strict=True):
                if number in part:
                    file.write(_header(data_dir, key, value, allow_pipes).tobytes())
                number += 1
    Path(f"{path}.tmp").replace(path)


def _recordings(data_dir: Path) -> int:
    return sum(len(keys) for keys, _ in read_blocks([data_dir / "wav.scp"]))


def _header(data_dir: Path, key: str, value: str, allow_pipes: bool) -> np.ndarray:
    try:
        info, readable = readable_audio(parse_recording(value, allow_pipes))
    except UserError as error:
        raise UserError(f"recording {key}: {error}") from error
    except ValueError as error:
        raise UserError(f"{data_dir / 'wav.scp'}: {key!r} {'; '.join(error.args)}") from error
    return np.array((info.sample_rate_hz, info.frames, readable), HEADER)


def _count_done(output: Path) -> int:
    size = 0
    for path in job_files(output, "headers"):
        with suppress(FileNotFoundError):  # a file that is renamed meanwhile is counted the next time
            size += path.stat().st_size
    return size // HEADER.itemsize


def _write_counts(data_dir: Path, output: Path, headers: np.ndarray) -> int:
    """Write utt2num_frames; a feats.scp of others and theirs are moved aside once all is counted."""
    tables, total = AudioTables(data_dir), 0
    with atomic_write(data_dir / "utt2num_frames", follow_link=False) as file:  # a link's target is others'
        for keys, values in read_blocks(tables.paths):
            frames = _frames(keys, tables.parse(values), headers)
            file.writelines(f"{key} {count}\n" for key, count in zip(keys, frames.tolist(), strict=True))
            total += int(frames.sum())
        set_aside_foreign(data_dir, output)
    return total


def _frames(keys: Sequence[str], block: AudioBlock, headers: np.ndarray) -> np.ndarray:
    """Return the frames of each utterance, int64 (n,), by the arithmetic of `load_utterance` and `fbank`."""
    rate_hz, in_header, readable = (headers[name][block.recordings] for name in HEADER.names)
    start = np.rint(block.start_s * rate_hz).astype(np.int64)
    stop = np.where(np.isnan(block.end_s), in_header, np.rint(np.nan_to_num(block.end_s) * rate_hz)).astype(np.int64)
    doubtful = (start >= np.minimum(stop, readable)) | (stop > in_header)
    for i in np.flatnonzero(doubtful):
        end_s = None if np.isnan(block.end_s[i]) else float(block.end_s[i])
        _check(keys[i], float(block.start_s[i]), end_s, AudioInfo(int(rate_hz[i]), int(in_header[i])))
    samples = np.maximum(np.minimum(stop, readable) - start, 0)
    heard_hz = np.rint(rate_hz * block.speed).astype(np.int64)
    return frame_count(resampled_length(samples, heard_hz, SAMPLE_RATE_HZ))


def _check(utt_id: str, start_s: float, end_s: float | None, info: AudioInfo) -> None:
    try:
        segment_frames(start_s, end_s, info)
    except ValueError as error:
        raise UserError(f"utterance {utt_id!r}: {error}; correct either") from error
