"""The simulation of runs: what can be worked out by hand, what more rows and workers must do, sizes beside real files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from published import new_plan

from benchmarks import lock_traffic, scale, scale_check
from benchmarks.costs import DISK, GS, S3, Costs, manifest_bytes, plan_bytes, result_bytes
from benchmarks.measure import Usage
from benchmarks.simulation import (
    MOST_SHARDS,
    Cluster,
    Workload,
    finish_times,
    make_parts,
    publish_seconds,
    simulate,
    with_losses,
)
from pipeline.manifest import build_manifest
from pipeline.parts import join
from pipeline.results import PartResult, ShardResult, WrittenFile
from pipeline.rows import Part, Piece, Shard

COSTS = Costs(
    start=10, start_clock=8, row=0.001, batch=0.1, part=2, shard=1, worker_start=6, connect=2, cores=1,
    launch_shard=0.5, publish_part=0.25,
)  # fmt: skip
"""A part of 1,000 rows takes 1 for its rows, 0.1 for its batch, 2 for itself and 1 for its shard: 4.1 s."""


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_one_worker_does_one_part_after_the_other():
    found = simulate(Workload(10_000, 10), Cluster(1, cores=4), COSTS)

    assert found.launch == pytest.approx(8 + 10 * 0.5)
    assert found.scoring == pytest.approx(10 * 4.1)
    assert found.publish == pytest.approx(10 * 0.25)
    assert found.wall == pytest.approx(13 + 41 + 2.5)
    assert found.cpu == pytest.approx(10 + 10 * 0.5 + 41 + 2.5)
    assert (found.parts, found.pieces, found.lost, found.busy) == (10, 10, 0, 1)
    assert found.bottleneck == "scoring"


def test_a_process_that_keeps_two_cores_busy_takes_half_the_time_and_the_same_cpu():
    one, two = (simulate(Workload(10_000, 10), Cluster(1, cores=4), replace(COSTS, cores=cores)) for cores in (1, 2))
    assert (two.scoring, two.cpu) == (pytest.approx(one.scoring / 2), pytest.approx(one.cpu))


@pytest.mark.parametrize(
    ("batch_rows", "seconds"), [(1_000, 4.1), (500, 4.2), (334, 4.3), (10, 14.0)], ids=["one", "two", "a rest", "many"]
)
def test_batches_of_a_part(batch_rows: int, seconds: float):
    assert simulate(Workload(1_000, 1, batch_rows=batch_rows), Cluster(1), COSTS).scoring == pytest.approx(seconds)


def test_shares_of_two_processes():
    found = simulate(Workload(10_000, 10), Cluster(2, cores=2), COSTS)

    # Both wait 2 s until the second has connected; it then builds its model for 4 s and has 5 parts of 4.1 s
    assert found.scoring == pytest.approx(2 + 4 + 5 * 4.1)
    assert found.cpu == pytest.approx(10 + 5 + 41 + 6 + 2.5)


def test_shares_are_every_nth_part():
    # 5 parts for 2: the launcher has three of them, and its 12.3 s and the other's 4 + 8.2 s begin after 2 s
    assert simulate(Workload(5_000, 5), Cluster(2, cores=2), COSTS).scoring == pytest.approx(2 + max(12.3, 4 + 8.2))


def test_processes_share_the_cores_of_the_machine():
    # On one core: 2 s to connect, then 12.3 and 12.2 s of work together
    assert simulate(Workload(5_000, 5), Cluster(2, cores=1), COSTS).scoring == pytest.approx(2 + 12.3 + 12.2)


def test_no_more_processes_than_parts():
    found = simulate(Workload(3_000, 3), Cluster(64, cores=64), COSTS)
    assert found == simulate(Workload(3_000, 3), Cluster(3, cores=64), COSTS)
    assert found.scoring == pytest.approx(2 + 4 + 4.1)


def test_more_workers_than_parts_idle_on_a_cluster():
    cluster = Cluster(100, processes=1, cores=1, dealing="greedy", machines_up=60)
    found = simulate(Workload(10_000, 10), cluster, COSTS)

    assert found.scoring == pytest.approx(60 + 6 + 4.1)
    assert found.busy == pytest.approx(0.1)
    assert found.cpu == pytest.approx(10 + 5 + 41 + 10 * 6 + 2.5)  # those without a part build no model


def test_greedy_processes_take_the_next_part():
    # 7 parts for 3 processes: 3, 2 and 2 of them
    found = simulate(Workload(7_000, 7), Cluster(3, processes=1, cores=1, dealing="greedy"), COSTS)
    assert found.scoring == pytest.approx(6 + 3 * 4.1)
    assert found.busy == pytest.approx((3 * 6 + 7 * 4.1) / (3 * (6 + 3 * 4.1)))


def test_one_huge_part_is_waited_for():
    costs = replace(COSTS, batch=0)
    skewed = Workload(1_000_000, 100, skew=4.0, seed=1)
    largest = make_parts(skewed, random=np.random.default_rng(1)).rows.max()
    assert largest > 200_000

    few, many = (
        simulate(skewed, Cluster(count, processes=1, cores=1, dealing="greedy"), costs).scoring for count in (50, 100)
    )
    assert many == pytest.approx(6 + 0.001 * largest + 3)
    assert few < many * 1.1
    split = simulate(replace(skewed, split_rows=10_000), Cluster(100, processes=1, cores=1, dealing="greedy"), costs)
    assert split.scoring < many / 4


def test_processes_of_a_machine_of_a_cluster_share_its_cores():
    alone, four = (
        simulate(Workload(100_000, 100), Cluster(4, processes=processes, cores=2, dealing="greedy"), COSTS).scoring
        for processes in (1, 4)
    )
    assert four == pytest.approx(2 * alone)


def test_waiting_for_a_store_takes_time_and_no_cpu():
    disk, store = (simulate(Workload(10_000, 10), Cluster(1, cores=4), COSTS, medium) for medium in (DISK, GS))
    assert store.scoring == pytest.approx(disk.scoring + 10 * GS.request * (GS.worker_part + GS.worker_shard))
    assert store.cpu == pytest.approx(disk.cpu)


def test_publishing():
    workload = Workload(4_000_000_000, 2_000, older_files=500)
    costs = replace(COSTS, output_row=25)
    assert publish_seconds(2_000, workload, costs, DISK) == pytest.approx(500)
    asked = 0.05 * (2_000 * 9 / 8 + 500 * 4 + 4)
    assert publish_seconds(2_000, workload, costs, GS) == pytest.approx(500 + asked)
    assert publish_seconds(2_000, workload, costs, S3) == pytest.approx(500 + asked + 100e9 / (8 * 250e6))


def test_finish_times():
    assert finish_times([[(4.0, 1.0)], [(4.0, 1.0)]], 2) == [4, 4]
    assert finish_times([[(4.0, 1.0)], [(4.0, 1.0)]], 1) == [8, 8]
    # The first is done at 2, sharing two cores; the second then has 3 of 4 left at up to two cores: 1.5 s
    assert finish_times([[(2.0, 2.0)], [(2.0, 1.0), (3.0, 2.0)]], 2) == pytest.approx([2, 3.5])
    assert finish_times([[], [(0.0, 1.0)]], 2) == [0, 0]
    assert finish_times([], 2) == []


def test_losses_are_done_again():
    seconds = np.full(100_000, 360.0)
    done, lost = with_losses(seconds, 1.0, random())

    again = np.exp(0.1) - 1  # attempts that fail, for each that does not
    assert lost.mean() == pytest.approx(again, rel=0.02)
    assert done.mean() == pytest.approx(1 + again / 2, rel=0.005)
    assert np.all((done == 1) == (lost == 0))


def test_losses_cost_time_and_cpu():
    cluster = Cluster(10, processes=1, cores=1, dealing="greedy")
    none, some = (
        simulate(Workload(10_000_000, 1_000), replace(cluster, losses=losses), COSTS) for losses in (0.0, 10.0)
    )
    assert none.lost == 0
    assert 20 < some.lost < 50  # 1,000 parts of 23 s or so, one lost every 360 s
    assert none.cpu + some.lost * 6 < some.cpu < none.cpu + some.lost * (6 + 24)
    assert some.scoring > none.scoring


@pytest.mark.parametrize(
    ("workload", "cluster", "message"),
    [
        (Workload(10, 10), Cluster(2, losses=1.0), "losses are for greedy dealing"),
        (Workload(10**9, 1), Cluster(2, dealing="greedy", losses=1.0), "make parts smaller"),
        (Workload(10**12, MOST_SHARDS + 1), Cluster(2), "more than the 2,000,000 that are simulated"),
    ],
    ids=["in process", "huge parts", "shards"],
)
def test_refused(workload: Workload, cluster: Cluster, message: str):
    with pytest.raises(ValueError, match=message):
        simulate(workload, cluster, COSTS)


@pytest.mark.parametrize("skew", [0.0, 0.5, 2.0])
def test_rows_of_shards_add_up(skew: float):
    parts = make_parts(Workload(1_234_567, 1_000, skew), random())
    assert parts.rows.sum() == 1_234_567
    assert parts.rows.min() >= 0
    assert parts.shards.tolist() == [1] * 1_000
    assert (np.std(np.log(np.maximum(parts.rows, 1))) > 0.8 * skew) if skew else set(parts.rows) <= {1234, 1235}


@pytest.mark.parametrize("rows_per_file", [1, 900, 5_000, 77_777, 10**9])
@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_shards_are_joined_as_the_pipeline_joins_them(rows_per_file: int, skew: float):
    alone = make_parts(Workload(300_000, 300, skew), random())
    shards = [Shard(f"{index}", int(rows)) for index, rows in enumerate(alone.rows)]
    runs = list(join(shards, (), rows_per_file, [float(shard.bytes) for shard in shards]))

    joined = make_parts(Workload(300_000, 300, skew, rows_per_file=rows_per_file), random())
    assert joined.shards.tolist() == [len(run) for run in runs]
    assert joined.rows.tolist() == [sum(shard.bytes for shard in run) for run in runs]


def test_split_shards_are_alike_and_not_joined():
    parts = make_parts(Workload(1_000, 2, split_rows=300, rows_per_file=10_000), random())
    assert parts.rows.tolist() == [250] * 4
    assert parts.shards.tolist() == [1] * 4


@pytest.mark.parametrize("dealing", ["shares", "greedy"])
def test_more_rows_take_longer(dealing: str):
    runs = [simulate(Workload(10**power, 100), Cluster(4, 4, 4, dealing), COSTS) for power in range(4, 10)]
    for step in ("scoring", "cpu", "wall"):
        values = [getattr(run, step) for run in runs]
        assert values == sorted(values)
        assert values[-1] > 1_000 * values[0] / 100


def test_more_workers_of_a_cluster_do_not_take_longer():
    workload = Workload(10**9, 1_000, skew=0.5)
    seconds = [simulate(workload, Cluster(2**power, 4, 4, "greedy"), COSTS).scoring for power in range(2, 12)]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] / seconds[2] == pytest.approx(4, rel=0.05)


def test_the_same_seed_is_the_same_run():
    cluster = Cluster(50, 4, 4, "greedy", uneven=0.2, losses=1.0)
    workload = Workload(10**7, 1_000, skew=0.5, seed=3)
    assert simulate(workload, cluster, COSTS, GS) == simulate(workload, cluster, COSTS, GS)
    assert simulate(workload, cluster, COSTS, GS) != simulate(replace(workload, seed=4), cluster, COSTS, GS)


def test_the_largest_run_takes_seconds():
    workload = Workload(10**12, 1_000_000, skew=0.5, rows_per_file=5_000_000)
    before = time.process_time()
    found = simulate(workload, Cluster(10_000, 4, 4, "greedy", uneven=0.15, losses=0.01), Costs(), GS)

    assert time.process_time() - before < 10
    assert found.parts == pytest.approx(200_000, rel=0.05)
    assert found.busy > 0.8
    assert found.lock_requests > 5_000


def test_what_the_lock_is_asked():
    assert lock_traffic.requests(10, 0, GS) == pytest.approx(3 * 10 / 3.75)
    assert lock_traffic.requests(10, 5, GS) == pytest.approx(3 * 10 / 3.75 + 3 * 2 * 5)
    assert lock_traffic.requests(10, 5, DISK) == 0


def test_a_process_alone_touches_the_lock_at_every_look_but_the_first():
    assert lock_traffic.touches(1, DISK) * 60 == pytest.approx(60 / 3.75 - 1, abs=2)


def test_processes_leave_each_other_the_touches():
    # No more often than every 2.5 s, the shortest time between two looks of one process
    assert lock_traffic.touches(1_000, DISK) <= 1 / 2.5
    assert lock_traffic.touches(1_000, DISK) < lock_traffic.touches(1_000, GS) < 0.01 * 1_000 / 3.75


def _json(parts: int, shards_each: int) -> tuple[int, int, int, int]:
    """Bytes of plan, manifest and results, and of a path."""
    pieces = [
        tuple(
            Piece(Shard(f"gs://bucket/features/rows-{index:05}-{place:03}.tfrecord", 435_000_000, None, "1" * 16))
            for place in range(shards_each)
        )
        for index in range(parts)
    ]
    plan = replace(new_plan("0" * 32, 1), parts=tuple(Part(index, "0" * 32, each) for index, each in enumerate(pieces)))
    file = WrittenFile("0" * 32 + ".parquet", 1_000_000, 20_000_000, "0" * 64)
    present = {f"number_{index:02}": 1_000_000 for index in range(18)}
    results = [
        PartResult(
            part.index, part.key, "0" * 32, tuple(ShardResult(piece.shard, 1_000_000, 0) for piece in part.pieces),
            file, None, present, 0, "0" * 32, 10**9,
        )
        for part in plan.parts
    ]  # fmt: skip
    manifest = json.dumps(build_manifest(plan, results, plan.started, None), indent=1, ensure_ascii=False)
    path = len(plan.parts[0].pieces[0].shard.path)
    return len(plan.to_json()), len(manifest), sum(len(result.to_json()) for result in results), path


@pytest.mark.parametrize(("parts", "shards_each"), [(2_000, 1), (200, 20)], ids=["one shard", "joined"])
def test_sizes_are_those_of_the_files(parts: int, shards_each: int):
    plan, manifest, results, path = _json(parts, shards_each)
    assert plan_bytes(parts, parts * shards_each, path) == pytest.approx(plan, rel=0.03)
    assert manifest_bytes(parts, parts * shards_each, path) == pytest.approx(manifest, rel=0.03)
    assert result_bytes(parts, parts * shards_each, path) == pytest.approx(results, rel=0.03)


def test_costs_that_are_fitted_are_those_that_the_runs_had():
    costs = Costs(cores=1.25, worker_start=5.0)

    def usage(asked: scale_check.Asked) -> Usage:
        found = simulate(asked.workload, Cluster(asked.workers, cores=2), costs)
        return Usage(found.wall, found.cpu, 0)

    usages = {asked: usage(asked) for asked in (*scale_check.ONE_PROCESS, scale_check.TWO)}
    fitted = scale_check.fit(usages, costs.launch_shard, costs.publish_part, costs.connect)
    for name in ("start", "row", "batch", "part", "shard", "worker_start"):
        assert getattr(fitted, name) == pytest.approx(getattr(costs, name), rel=1e-3), name
    for name in ("cores", "start_clock"):
        assert getattr(fitted, name) == pytest.approx(getattr(costs, name), rel=0.01), name


@pytest.mark.parametrize(
    ("say", "number", "words"),
    [
        (scale.duration, 5.54, "5.5 s"), (scale.duration, 100, "100 s"), (scale.duration, 720, "12 min"),
        (scale.duration, 12_240, "3.4 h"), (scale.duration, 1_036_800, "12 d"), (scale.size, 999, "999 B"),
        (scale.size, 1_900, "1.9 kB"), (scale.size, 226_000_000, "226 MB"), (scale.size, 3.4e9, "3.4 GB"),
    ],
)  # fmt: skip
def test_in_words(say: Callable[[float], str], number: float, words: str):
    assert say(number) == words


def test_the_table(capsys: pytest.CaptureFixture[str]):
    scale.main(["--rows", "1e6", "1e9", "--workers", "1", "100"])

    header, _, *lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()
    ]
    assert header == list(scale.HEADER)
    assert [line[:2] for line in lines] == [["1e6", "1"], ["1e6", "100"], ["1e9", "1"], ["1e9", "100"]]
    assert lines[1][-1] == "scoring"
    assert lines[3][2].startswith("`rows_per_file` ")


def test_settings_make_the_shortest_run():
    cluster = Cluster(100, 4, 4, "greedy", 120, uneven=0.15)
    workload = Workload(10**10, 10_000, skew=0.5)
    chosen, outcome = scale.best(workload, cluster, Costs(), GS)

    walls = [simulate(each, cluster, Costs(), GS).wall for each in scale.settings(workload, 100, Costs())]
    assert outcome.wall <= 1.02 * min(walls)
    assert chosen.rows_per_file is not None
    assert outcome.wall < simulate(workload, cluster, Costs(), GS).wall
