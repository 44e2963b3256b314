"""Random but valid job specs."""

import re

from hypothesis import strategies as st

from racksack_jobspecs.endings import WARN_SIGNALS
from racksack_jobspecs.resources import GpuRequest, ResourceRequest
from racksack_jobspecs.spec import ArraySpec, Dependency, Environment, JobSpec

# What libyaml can carry: every character but surrogates and the two that are none.
characters = st.characters(exclude_categories=("Cs",), exclude_characters="\0\ufffe\uffff")
texts = st.text(characters, max_size=30)
lines = (
    st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf", "Zl", "Zp", "Cn", "Co", "Zs")), min_size=1, max_size=40)
    .filter(str.isprintable)
    .map(lambda text: text[:100])
)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
parts = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"), exclude_characters="/~"), min_size=1, max_size=12
).filter(lambda part: part not in (".", "..") and part == part.strip())
paths = st.lists(parts, min_size=1, max_size=4).map("/".join).filter(lambda path: len(path.encode()) < 4000)
sizes = st.integers(1, 2**60)
durations = st.floats(0.001, 3e8, allow_nan=False).map(lambda value: round(value, 6)) | st.integers(1, 10**8).map(float)
cpu_counts = st.integers(1, 65_536_000).map(lambda thousandths: thousandths / 1000)
moments = st.integers(0, 253_402_300_799).map(float) | st.floats(0, 1e10).map(lambda value: round(value, 6))


def unique(values: st.SearchStrategy[str], max_size: int = 4) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(values, max_size=max_size, unique=True).map(tuple)


gpus = st.none() | st.builds(
    GpuRequest,
    count=st.integers(1, 1024).map(float) | st.integers(1, 999).map(lambda share: share / 1000),
    model=st.none() | lines,
    vram_bytes=st.none() | sizes,
)
resources = st.builds(ResourceRequest, cpus=cpu_counts, ram_bytes=sizes, gpus=gpus, disk_bytes=st.just(0) | sizes)
environments = (
    st.builds(
        Environment,
        kind=st.sampled_from(["requirements", "pyproject", "lock"]),
        file=st.none() | paths,
        python=st.sampled_from([None, "3", "3.10", "3.12.4"]),
        extras=unique(st.sampled_from(["gpu", "all", "x.y-z_1"])),
        groups=unique(st.sampled_from(["dev", "plots"])),
    )
    | st.builds(Environment, python=st.sampled_from([None, "3.11"]))
    | st.just(Environment("none"))
)
# Texts made of ids alone are several dependencies, and `15_3` is written `15[3]`.
dependable = lines.map(str.strip).filter(lambda name: bool(name) and not re.fullmatch(r"[0-9:_?\[\]]+", name))
dependencies = st.lists(
    st.builds(Dependency, job=dependable, condition=st.sampled_from(["ok", "any", "notok"]))
    | st.just(Dependency("", "singleton")),
    max_size=3,
    unique=True,
).map(tuple)
arrays = st.none() | st.builds(
    ArraySpec,
    indices=st.sets(st.integers(0, 2**31 - 1), min_size=1, max_size=30).map(sorted).map(tuple),
    max_running=st.none() | st.integers(1, 100_000),
)
env = st.dictionaries(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True).filter(lambda key: not key.startswith("RACKSACK_")),
    texts,
    max_size=4,
)


@st.composite
def specs(draw: st.DrawFn) -> JobSpec:
    nodes = draw(unique(names))
    retries, retry_on = (
        draw(st.integers(0, 1000)),
        draw(unique(st.sampled_from(["exit:29", "exit", "oom", "timeout", "node"]))),
    )
    factors = st.integers(1, 100).map(float) | st.just(1.5) if retries and "oom" in retry_on else st.just(1.0)
    checkpoint, in_ram = draw(unique(paths)), draw(unique(paths))
    no_links = {path.rstrip("/") for path in (*checkpoint, *in_ram)}
    warn_s = draw(st.just(0.0) | durations.filter(lambda value: value <= 86_400))
    return JobSpec(
        name=draw(lines),
        project=draw(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,40}|snapshot:[0-9a-f]{64}", fullmatch=True)),
        entrypoint=draw(paths),
        args=tuple(draw(st.lists(texts, max_size=5))),
        resources=draw(resources),
        time_limit_s=draw(st.none() | durations),
        env=draw(env),
        environment=draw(environments),
        outputs=draw(unique(paths)),
        max_output_bytes=draw(sizes),
        retries=retries,
        retry_on=retry_on,
        no_retry_on=draw(unique(st.sampled_from(["exit:2", "exit:137", "oom"]))),
        retry_delay_s=draw(durations),
        notify=tuple(draw(st.lists(st.sampled_from(["me", "bot:failed", "a-b.c:done"]), unique=True))),
        oom_factor=draw(factors),
        partition=draw(st.just("") | names),
        priority=draw(st.integers(-1000, 1000)),
        after=draw(dependencies),
        labels=draw(unique(lines.filter(lambda label: "," not in label))),
        nodes=nodes,
        exclude=tuple(name for name in draw(unique(names)) if name not in nodes),
        array=draw(arrays),
        shared=tuple(path for path in draw(unique(paths)) if path.rstrip("/") not in no_links),
        stage_in_ram=in_ram,
        hold=draw(st.booleans()),
        begin_at_s=draw(st.none() | moments),
        no_wake=draw(st.booleans()),
        gang=draw(st.integers(1, 4096)),
        deadline_at_s=draw(st.none() | moments),
        preemptible=draw(st.booleans()),
        grace_s=draw(st.none() | durations),
        warn_s=warn_s,
        warn_signal=draw(st.sampled_from(WARN_SIGNALS)) if warn_s else "USR1",
        resubmit_on=tuple(draw(st.lists(st.integers(1, 255), max_size=3, unique=True))),
        interactive=draw(st.booleans()),
        checkpoint=checkpoint,
        slurm_env=draw(st.booleans()),
        checkpoint_every_s=draw(st.floats(1, 86_400).map(lambda value: round(value, 3))) if checkpoint else 600.0,
        digest=draw(st.just("") | st.from_regex(r"[0-9a-f]{64}", fullmatch=True)),
        new_files=draw(st.sampled_from(["small", "all", "none"])),
        submission=draw(st.just("") | st.from_regex(r"[A-Za-z0-9._:-]{1,40}", fullmatch=True)),
    )
