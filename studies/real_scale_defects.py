"""Defects that the real scale would have met, each with a test: its outcome on the code before, and on today's.

    python studies/real_scale_defects.py [--before 0cc39c2]

Today's tests are copied into a worktree of the commit before and run there, then here. Both outcomes go to ``defects``
in docs/results/real_scale.json. A test that cannot even be imported there has failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results" / "real_scale.json"
PARTS = "tests/verl/models/test_checkpoint_parts.py::"
PARITY = "tests/verl/workers/test_parity.py::"
TRANSFER = "tests/verl/workers/test_weight_transfer.py::"
REPLICAS = "tests/sidecar/test_replicas.py::"
DEVICE = "tests/verl/workers/test_device.py::"
SLOW = "tests/sidecar/test_slow_loads.py::"
LIMITS = "tests/verl/trainer/test_load_limits.py::"
LEARNERS = "tests/verl/trainer/ppo/test_learners.py::"
SHARDS = "tests/verl/workers/test_sharded_policy.py::"

# number, what was wrong, the test that holds it
DEFECTS = [
    (
        1,
        "a folder with tokenizer.model alone gave wrong prompt ids, without a word",
        PARTS + "test_a_tokenizer_model_alone_gives_sentencepieces_ids[None]",
    ),
    (
        2,
        "a proprio projector beside a policy that does not use it was refused",
        PARTS + "test_a_proprio_projector_that_is_not_used_is_left_alone",
    ),
    (
        3,
        "a checkpoint with an L1 or diffusion action head was trained from logits that never were",
        PARTS + "test_another_kind_of_policy_is_refused_before_anything_starts"
        "[action_head--150000_checkpoint.pt-L1 regression or diffusion head]",
    ),
    (
        4,
        "FiLM's vision backbone was left out without a word",
        PARTS + "test_another_kind_of_policy_is_refused_before_anything_starts"
        "[vision_backbone--150000_checkpoint.pt-FiLM]",
    ),
    (
        5,
        "lora_adapter/ instead of merged weights could not be loaded",
        PARTS + "test_an_adapter_instead_of_merged_weights_is_applied",
    ),
    (
        6,
        "an export dropped modeling_prismatic.py and kept stale weight parts",
        PARTS + "test_an_export_keeps_code_and_processor_files_and_no_stale_weights",
    ),
    (
        7,
        "an export in bfloat16 lost the adapters' small changes",
        PARTS + "test_a_merge_into_a_bfloat16_base_keeps_small_changes",
    ),
    (
        8,
        "every learner held the whole policy in float32 while it was loaded",
        SHARDS + "test_a_rank_holds_its_shard_and_reads_its_rows",
    ),
    (
        9,
        "what LoRA freezes was kept in float32, 30 GB on one card",
        SHARDS + "test_what_adapters_freeze_is_kept_in_the_learners_dtype",
    ),
    (
        10,
        "AdamW's eps was 1e-5 and no key, which shrinks steps at 7.5 B to a tenth",
        PARITY + "test_the_optimizer_is_as_configured[0-5e-06]",
    ),
    (
        11,
        "the example script left betas, weight decay, the loss's mean and the episode limit at values not theirs",
        PARITY + "test_the_script_gives_their_optimizer_and_loss",
    ),
    (
        12,
        "ppo_mini_batch_size counted chunks: some 40 optimizer steps an update instead of 4",
        PARITY + "test_an_update_has_at_most_four_optimizer_steps[h100_8]",
    ),
    (
        13,
        "adapters trained with the rate for all weights, 5e-6, whatever a preset said",
        PARITY + "test_adapters_have_a_rate_of_their_own[h100_1]",
    ),
    (
        14,
        "the mean within each trajectory held for the whole update, not for each mini-batch",
        PARITY + "test_our_update_is_theirs_as_it_was_recorded",
    ),
    (
        15,
        "frames came without the JPEG and the Lanczos filter that published checkpoints were trained with",
        "tests/verl/models/test_rlds_frames.py::test_a_published_checkpoint_sees_such_frames",
    ),
    (
        16,
        "the table of SimpleVLA-RL's keys called keys the same that meant something else",
        "tests/project/test_key_table.py::test_the_table_says_what_was_once_another_thing",
    ),
    (
        17,
        "a whole float32 state went through driver and store: 3.5 to 4 times its size, spilled",
        TRANSFER + "test_two_ranks_send_their_shards_and_a_worker_has_the_policy",
    ),
    (
        18,
        "small deltas of LoRA vanished when merged into a bfloat16 rollout",
        TRANSFER + "test_lora_is_played_as_it_is_trained",
    ),
    (
        19,
        "with LoRA the whole policy travelled, not the adapters",
        "tests/verl/workers/test_weight_buckets.py::test_with_adapters_only_what_is_trained_travels",
    ),
    (
        20,
        "a worker that takes no weights, or dies over it, was not told typed",
        TRANSFER + "test_a_worker_that_dies_or_takes_nothing_is_told_and_the_others_have_all",
    ),
    (
        21,
        "a worker that loads longer than worker_timeout_s was replaced until none was left",
        "tests/verl/trainer/ppo/test_fleet.py::test_a_worker_that_still_loads_its_policy_is_waited_for",
    ),
    (
        22,
        "time-outs of loading did not follow the size, nor say what was loaded",
        "tests/verl/trainer/test_load_limits.py::test_seven_billion_parameters_have_more_time_than_a_small_policy",
    ),
    (
        23,
        "param_offload: NCCL alone cannot reduce main memory",
        "tests/verl/workers/test_backends.py::test_offloaded_parameters_have_a_backend_that_reduces_main_memory"
        "[cuda-True-cpu:gloo,cuda:nccl]",
    ),
    (
        24,
        "what CUDA, cuBLAS, NCCL and vLLM say of a full card was not known",
        "tests/evo_vlac/test_halving.py::test_a_full_card_is_known_whoever_says_so[CUDA driver error: out of memory]",
    ),
    (
        25,
        "ENOMEM did not count as out of memory",
        "tests/evo_vlac/test_halving.py::test_memory_that_the_system_refuses_is_out_of_memory",
    ),
    (
        26,
        "LoRA in float32 was recomputed for nothing",
        "tests/verl/workers/test_old_log_probs.py::"
        "test_alike_nothing_is_recomputed_and_the_update_is_the_same_bit_for_bit[4]",
    ),
    (
        27,
        "one critic for all GPUs; a killed one cost a restart of the whole service",
        REPLICAS + "test_a_replica_killed_in_mid_rollout_changes_no_verdict",
    ),
    (
        28,
        "a critic killed for good ended the run",
        "tests/project/test_critic_lost.py::test_a_critic_killed_for_good_changes_no_byte_of_the_learners_input",
    ),
    (
        29,
        "a wedged card ended the whole service",
        REPLICAS + "test_a_wedged_replica_is_replaced_and_its_batch_answered",
    ),
    (
        30,
        "one remote critic, and nowhere to go when it refuses",
        "tests/sidecar/test_openai_servers.py::test_what_one_server_refuses_the_other_answers",
    ),
    (
        31,
        "a critic that cannot keep up went unsaid",
        "tests/verl/trainer/test_capacity.py::test_the_line_of_each_preset",
    ),
    (
        32,
        "a GPU that Ray gave and torch did not see: 7.5 B were trained on the CPU without a word",
        DEVICE + "test_a_gpu_that_torch_does_not_see_is_refused[learner]",
    ),
    (
        33,
        "who asked for no GPU took the first card of the node",
        DEVICE + "test_who_was_given_no_gpu_takes_none[rollout]",
    ),
    (
        34,
        "rollouts on the CPU beside learners on a GPU counted as computed alike",
        DEVICE + "test_a_learner_knows_that_the_rollout_is_on_the_cpu",
    ),
    (
        35,
        "an actor that was refused ended the run in Ray's traceback",
        "tests/verl/trainer/test_given_gpus.py::test_a_learner_with_a_gpu_that_torch_does_not_see_ends_the_run",
    ),
    (
        36,
        "an environment whose torch sees none of the GPUs, its CPU build for one, was not noticed",
        "tests/evo_vlac/test_gpu_node.py::test_an_engine_that_takes_the_cpu_beside_gpus_says_so",
    ),
    (
        37,
        "every environment of a node drew on the first card",
        "tests/verl/envs/test_egl.py::test_a_workers_environments_draw_on_its_card",
    ),
    (
        38,
        "a container without the graphics capability drew in software without a word",
        "tests/verl/envs/test_egl.py::test_software_beside_gpus_is_a_warning_that_names_the_setting",
    ),
    (
        39,
        "a full card while swift's engine loaded was a broken checkpoint, in all words but torch's own",
        "tests/evo_vlac/test_full_card.py::test_a_model_that_does_not_fit_is_no_broken_checkpoint"
        "[CUDA error: out of memory]",
    ),
    (
        40,
        "what vLLM says when others give memory back while it measures ended the sidecar for good",
        "tests/sidecar/test_vllm_engine.py::test_a_full_card_is_worth_another_try[error2]",
    ),
    (
        41,
        "a device that is full while the critic loads counted as a crash, four of which ended the sidecar",
        "tests/sidecar/test_no_room.py::test_a_full_device_is_no_crash",
    ),
    (
        42,
        "vLLM loaded beside learners and rollout workers, and counted their memory as its own",
        "tests/verl/trainer/test_loading_order.py::test_it_loads_last[vllm]",
    ),
    (
        43,
        "settings about devices that exclude each other were found after Ray's start, or not at all",
        "tests/verl/trainer/test_device_pairs.py::test_a_pair_that_cannot_work_is_one_line[halves]",
    ),
    (
        44,
        "more learners than GPUs: NCCL's error at the first collective",
        "tests/verl/trainer/test_device_pairs.py::test_a_pair_that_cannot_work_is_one_line[ranks]",
    ),
    (
        45,
        "on nodes of unequal size learners went where no GPU was left",
        "tests/verl/trainer/test_placement.py::test_unequal_nodes_have_learners_by_their_gpus",
    ),
    (
        46,
        "LIBERO_ASSETS, SIDECAR_PYTHON, NCCL_* and others did not reach a node with an environment of its own",
        "tests/verl/trainer/test_actor_environment.py::test_an_actor_on_a_node_with_an_empty_environment_has_them",
    ),
    (
        47,
        "a guest asked for a share of a GPU that its host had not got, and waited without end",
        "tests/verl/trainer/test_placement.py::test_a_guest_asks_for_no_share_that_its_host_cannot_give",
    ),
    (
        48,
        "a critic that came back from an update in more than a minute was called wedged and started again",
        SLOW + "test_a_critic_that_comes_back_late_from_an_update_is_not_wedged[one]",
    ),
    (
        49,
        "a critic that loads for more than five minutes was killed over it",
        SLOW + "test_the_start_has_the_time_that_the_model_s_size_takes",
    ),
    (
        50,
        "a run gave its critic the same minutes to start and to come back, whatever its size, and was silent over it",
        "tests/verl/trainer/test_sidecars.py::"
        "test_a_large_critic_may_be_as_late_as_its_size_takes_and_that_is_said_once",
    ),
    (
        51,
        "a critic that was started again in mid-rollout had a minute to load, or the run ended",
        LIMITS + "test_the_sidecar_and_who_asks_it_have_the_time_that_the_critic_takes",
    ),
    (
        52,
        "the base of an adapter did not count in the time for loading it",
        LIMITS + "test_an_adapter_is_waited_for_as_long_as_its_base_takes",
    ),
    (
        53,
        "NCCL aborted a learner after ten minutes of waiting for one that still loaded",
        LIMITS + "test_ranks_wait_for_one_that_still_loads_longer_than_the_driver_does",
    ),
    (
        54,
        "an update's samples went whole through Ray's store of 256 MiB: spilled, and held by every process",
        LEARNERS + "test_pictures_larger_than_the_store_reach_the_rank_that_needs_them_and_none_is_spilled",
    ),
    (
        55,
        "a learner lost with its node was told as another's broken connection, without the way to go on",
        LEARNERS + "test_a_rank_that_dies_is_told_though_another_notices_first",
    ),
]


# A module that ``tree`` lacks must not be taken from the checkout that pip installed for editing.
ALONE = """import sys
sys.meta_path[:] = [one for one in sys.meta_path if getattr(one, "__name__", "") != "_EditableFinder"]
"""


def outcomes(tree: Path, scratch: Path) -> dict[str, str]:
    """Test -> passed or failed, in one run of pytest in ``tree``."""
    (scratch / "sitecustomize.py").write_text(ALONE)
    report = scratch / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    environment = {**os.environ, "PYTHONPATH": f"{scratch}:{tree}"}
    tests = [test for _, _, test in DEFECTS]
    subprocess.run([*command, f"--junit-xml={report}", *tests], cwd=tree, env=environment, check=False)
    passed = {
        (case.get("classname"), case.get("name"))
        for case in ElementTree.parse(report).iter("testcase")
        if not len(case)  # a failure, an error and a skip are elements within
    }
    return {test: "passed" if _named(test) in passed else "failed" for test in tests}


def _named(test: str) -> tuple[str, str]:
    """A test as pytest's report names it."""
    path, _, name = test.partition("::")
    return path.removesuffix(".py").replace("/", "."), name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="0cc39c2", metavar="COMMIT")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        old = Path(scratch) / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(old), given.before], check=True)
        try:
            shutil.copytree(ROOT / "tests", old / "tests", dirs_exist_ok=True)
            before = outcomes(old, Path(scratch))
        finally:
            subprocess.run([*git, "remove", "--force", str(old)], check=True)
        after = outcomes(ROOT, Path(scratch))
    found = [
        {"number": number, "name": name, "test": test, "before": before[test], "after": after[test]}
        for number, name, test in DEFECTS
    ]
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**results, "defects": found}, indent=2) + "\n")
    for defect in found:
        print(f"{defect['number']:3} {defect['before']:6} -> {defect['after']:6}  {defect['name']}")


if __name__ == "__main__":
    main()
