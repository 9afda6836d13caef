"""Models, training, evaluation, checkpoints: repeatable, honest about the test set, and they really learn."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from devices import Worker
from testbed.learning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from testbed.learning.data import cached_dataset
from testbed.learning.errors import CheckpointError, TaskError, UnknownModelError
from testbed.learning.federation import Plan, federate, model_spec, tasks, with_samples
from testbed.learning.models import ModelSpec, build_model, initial_state, load, to_numpy, to_torch
from testbed.learning.seeds import Seeds
from testbed.learning.training import TrainTask, correct, evaluate, pick_device, train_client, warm_up

SPEC = ModelSpec("cnn", classes=10, in_channels=1, image_size=8)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits():
    return cached_dataset("digits")


def task(**changes):
    state = initial_state(SPEC, 1)
    return dataclasses.replace(
        TrainTask(SPEC, state, "digits", np.arange(200), seed=5, batch_size=32, learning_rate=0.05), **changes
    )


def same(first, second):
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and np.array_equal(first[name], second[name])
        for name in first
    )


@pytest.mark.parametrize(
    ("name", "parameters"), [("alexnet", 57_029_322), ("mobilenet_v2", 2_236_106), ("resnet50", 23_522_250)]
)
def test_the_papers_models_have_the_sizes_we_expect(name, parameters):
    with torch.device("meta"):
        model = build_model(name, classes=10, in_channels=1, image_size=32)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize(
    "name", ["alexnet", "mobilenet_v2", "resnet18", "squeezenet1_1", "vit_b_32", "shufflenet_v2_x0_5"]
)
@pytest.mark.parametrize(("channels", "size"), [(1, 32), (3, 64)])
def test_models_take_small_images_of_any_colour(name, channels, size):
    spec = ModelSpec(name, 7, channels, size)
    with torch.device("meta"):
        model = build_model(name, 7, channels, size).eval()
        assert model(torch.zeros(2, channels, size, size)).shape == (2, 7)
        first = next(part for part in model.modules() if isinstance(part, nn.Conv2d))
    assert first.in_channels == channels
    assert first.stride == ((32, 32) if name == "vit_b_32" else (1, 1))
    assert spec.classes == 7


def test_equal_seeds_give_equal_weights_and_disturb_nobody():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first = to_numpy(build_model("mobilenet_v2", 10, 1, 32, seed=9).state_dict())
    assert torch.equal(torch.rand(4), expected)
    assert same(first, to_numpy(build_model("mobilenet_v2", 10, 1, 32, seed=9).state_dict()))
    other = to_numpy(build_model("mobilenet_v2", 10, 1, 32, seed=10).state_dict())
    assert not np.array_equal(first["classifier.1.weight"], other["classifier.1.weight"])


def test_loading_copies_the_state_exactly():
    state = initial_state(ModelSpec("mobilenet_v2", 10, 1, 32), 2)
    again = to_numpy(load(ModelSpec("mobilenet_v2", 10, 1, 32), state).state_dict())
    assert same(again, state)
    assert again["features.0.1.num_batches_tracked"].dtype == np.int64
    to_torch(state)["features.0.1.num_batches_tracked"].add_(5)
    assert state["features.0.1.num_batches_tracked"] == 0


def test_unknown_models_get_a_hint():
    with pytest.raises(UnknownModelError, match="unknown model 'mobilnet_v2'; did you mean 'mobilenet_v2'"):
        build_model("mobilnet_v2", 10)


def test_training_is_repeatable_here_and_in_a_worker_and_leaves_its_input_alone():
    work = task()
    before = {name: values.copy() for name, values in work.state.items()}
    first, second = train_client(work), train_client(work)
    assert same(first.state, second.state)
    assert first.loss == second.loss
    assert same(work.state, before)
    with Worker() as worker:
        remote, took = worker.call(train_client, work)
    assert same(remote.state, first.state)
    assert took.cpu_s > 0
    assert not same(train_client(task(seed=6)).state, first.state)


def test_a_task_with_its_own_samples_is_the_same_task(digits):
    assert same(train_client(with_samples(task(), digits)).state, train_client(task()).state)


def test_steps_epochs_and_left_over_samples():
    assert train_client(task(indices=np.arange(100))).steps == 4  # 32 + 32 + 32 + 4
    assert train_client(task(indices=np.arange(97))).steps == 3  # a batch of one would break batch norm
    assert train_client(task(indices=np.arange(100), local_epochs=2)).steps == 8
    assert train_client(task(max_steps=2)).steps == 2
    warm_up(task())


def test_batch_norm_models_train_on_an_odd_sample():
    spec = ModelSpec("mobilenet_v2", 10, 1, 16)
    work = TrainTask(spec, initial_state(spec, 0), "digits", np.arange(5), seed=1, batch_size=4)
    result = train_client(work)
    assert result.steps == 1
    assert result.state["features.0.1.num_batches_tracked"] == 1
    assert {name: values.dtype for name, values in result.state.items()} == {
        name: values.dtype for name, values in work.state.items()
    }


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_optimizers_reduce_the_loss(optimizer):
    rate = 0.05 if optimizer == "sgd" else 0.002
    early = train_client(task(max_steps=2, optimizer=optimizer, learning_rate=rate))
    late = train_client(task(local_epochs=10, optimizer=optimizer, learning_rate=rate))
    assert late.loss < early.loss * 0.8


def test_fedprox_keeps_clients_near_the_global_model():
    def distance(result):
        return sum(float(np.square(result.state[name] - start).sum()) for name, start in task().state.items())

    free, held = (distance(train_client(task(local_epochs=5, proximal_mu=mu))) for mu in (0.0, 1.0))
    assert held < 0.7 * free


def test_a_step_of_sgd_is_the_textbook_step(digits):
    """Second implementation: one plain step written out by hand."""
    work = task(indices=np.arange(8), batch_size=8, momentum=0.0, max_steps=1)
    model = load(SPEC, work.state)
    images = digits.train_images[:8].float() / 255
    inputs = (images - digits.mean[0]) / digits.deviation[0]
    loss = nn.functional.cross_entropy(model(inputs), digits.train_labels[:8])
    loss.backward()
    result = train_client(work)
    assert result.loss == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        expected = (parameter - 0.05 * parameter.grad).detach().numpy()
        np.testing.assert_allclose(result.state[name], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local_epochs": 0}, "local_epochs 0"),
        ({"batch_size": 1}, "batch_size 1 must be at least 2"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion'; known: sgd, adam"),
        ({"proximal_mu": -1.0}, "must not be negative"),
    ],
)
def test_impossible_tasks_are_refused_when_built(changes, message):
    with pytest.raises(TaskError, match=message):
        task(**changes)


def test_impossible_tasks_are_refused_when_run():
    with pytest.raises(TaskError, match="at least two samples"):
        train_client(task(indices=np.arange(1)))
    if not torch.cuda.is_available():
        with pytest.raises(TaskError, match="sees no GPU"):
            pick_device("cuda")
    assert pick_device("cpu").type == "cpu"


def test_tasks_are_plain_data():
    again = pickle.loads(pickle.dumps(task()))
    assert same(again.state, task().state)


def test_federated_rounds_learn_and_the_test_set_is_never_trained_on(digits):
    plan = Plan("cnn", seed=3, clients=3, rounds=4, image_size=8, learning_rate=0.1, batch_size=32)
    outcomes = [outcome for outcome, _ in federate(plan, digits)]
    assert outcomes[-1].accuracy > 0.6
    assert outcomes[-1].loss < outcomes[0].loss
    held_out = {image.tobytes() for image in digits.test_images.numpy()}
    for _, work in tasks(plan, digits, initial_state(model_spec(plan, digits), 0), 0):
        own = {image.tobytes() for image in with_samples(work, digits).images}
        assert not own & held_out


def test_paired_runs_differ_only_by_what_the_uplink_does(digits):
    plan = Plan("cnn", seed=3, clients=2, rounds=1, image_size=8, samples_per_client=64, batch_size=32)
    ((plain, plain_state),) = federate(plan, digits)
    ((exact, exact_state),) = federate(plan, digits, lambda update, reference: dict(update))
    ((_, lossy_state),) = federate(
        plan, digits, lambda update, reference: {n: np.round(v, 1) for n, v in update.items()}
    )
    assert plain == exact
    assert same(plain_state, exact_state)
    assert not same(plain_state, lossy_state)


def test_a_resumed_run_ends_where_an_unbroken_one_does(digits, tmp_path):
    plan = Plan("cnn", seed=4, clients=2, rounds=3, image_size=8, samples_per_client=64, batch_size=32)
    unbroken = list(federate(plan, digits))
    file = tmp_path / "global.safetensors"
    save_checkpoint(Checkpoint(unbroken[0][1], 1, {"seed": 4}), file)
    kept = load_checkpoint(file, {"seed": 4})
    assert list(kept.state) == list(unbroken[0][1])
    resumed = list(federate(plan, digits, start=kept.state, first_round=kept.round))
    assert [outcome for outcome, _ in resumed] == [outcome for outcome, _ in unbroken[1:]]
    assert same(resumed[-1][1], unbroken[-1][1])


def test_checkpoints_refuse_what_is_not_theirs(tmp_path):
    file = tmp_path / "global.safetensors"
    state = {"b": np.arange(3, dtype=np.int64), "a": np.float16([[1, 2]]), "n": np.array(7)}
    save_checkpoint(Checkpoint(state, 2, {"seed": 1, "model": "cnn"}), file)
    again = load_checkpoint(file)
    assert same(again.state, state)
    assert list(again.state) == ["b", "a", "n"]
    assert again.state["n"].shape == ()
    with pytest.raises(CheckpointError, match="belongs to another run: seed is 1 there, 2 here"):
        load_checkpoint(file, {"seed": 2, "model": "cnn"})
    raw = bytearray(file.read_bytes())
    file.write_bytes(raw[:40])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(file)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_accuracy_is_the_share_of_right_answers(digits):
    state = initial_state(SPEC, 1)
    hits = correct(state, SPEC, digits, limit=50, batch_size=7)
    assert hits.shape == (50,)
    assert evaluate(state, SPEC, digits, limit=50) == hits.mean()


def test_every_random_choice_has_its_own_stream():
    seeds = Seeds(7)
    drawn = [seeds.model(), seeds.partition(), seeds.device(0), seeds.choice(0)]
    drawn += [seeds.training(round_number, client) for round_number in range(20) for client in range(20)]
    assert len(set(drawn)) == len(drawn)
    assert Seeds(7).training(3, 4) == seeds.training(3, 4)
    assert Seeds(8).model() != seeds.model()
