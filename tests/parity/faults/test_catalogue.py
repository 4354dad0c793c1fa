"""Each fault of the catalogue, put into a layer of a whole model, is recognised there by its name.

What is put in and what recognises it come from one function, so that this shows that the two belong
together and that no other fault of the catalogue takes the name. That real mistakes are found is
shown by ``tests/faults``, whose injections know nothing of the catalogue.
"""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis_cases import KINDS, doubled
from lockstep import Lockstep
from sampling import one_in

from converter.conversion import convert
from converter.fetch.cached import CheckpointFiles
from efficientdet_spec import Fusion
from parity.diagnosis.examination import Known, site_of
from parity.diagnosis.suspects import findings
from parity.faults import Case, Hypothesis, diagnose
from parity.faults.basics.case import ALL, ROUNDINGS, computed
from parity.faults.basics.distance import from_stored, roundings
from parity.faults.basics.fault import Fault, in_variants
from parity.faults.basics.operations import faithful, of_each
from parity.faults.catalogue import CATALOGUE, FAMILIES
from torch_model.checkpoint import from_arrays

SEEN = 1e-4
"""Part of the largest output that a fault has to move one by."""

LONE = 2
"""Units of a lower precision between neighbouring numbers."""

PUT_IN = [fault for fault in CATALOGUE if fault.without is None]
IN_OUTPUTS = [fault for fault in PUT_IN if fault.faulty is not None]
IN_STRUCTURE = [fault for fault in PUT_IN if fault.faulty is None]


def names(faults):
    return [f"{fault.slug}: {fault.title}" for fault in faults]


@pytest.fixture(scope="module")
def places(tiny_conversion, tiny_checkpoint):
    """Layers and what they are given, of two models at an even and an odd size, two images each."""
    config = tiny_conversion.config
    prefix = tiny_checkpoint / "model"
    raw = convert(CheckpointFiles(prefix, str(prefix), None), weights="raw").arrays
    # The checkpoint holds the averages; any values that are not those will do for them.
    others = {"raw": raw, "ema": {name: 0.5 * value for name, value in raw.items()}}
    found = []
    for fusion, size in (
        (Fusion.FAST_ATTENTION, 128),
        (Fusion.FAST_ATTENTION, 136),
        (Fusion.SOFTMAX_ATTENTION, 128),
        (Fusion.CHANNEL_FAST_ATTENTION, 128),
    ):
        arrays = {name: array.copy() for name, array in tiny_conversion.arrays.items()}
        if fusion.is_per_channel:
            arrays |= weights_of_channels(arrays, config.fpn_channels)
        model = from_arrays(replace(config, fusion=fusion), arrays, "tiny")
        # Scales of trained models are of both signs.
        model.backbone.stem_bn.weight.data[::2] *= -1
        known = Known(model, others)
        found += given(model, known, size)
    return found


def weights_of_channels(arrays, channels):
    """Fusion weights of each channel, around those of the whole inputs."""
    rng = np.random.default_rng(0)
    return {
        name: (array[:, None] + rng.uniform(0.1, 0.8, (len(array), channels))).astype("float32")
        for name, array in arrays.items()
        if name.endswith(".weights")
    }


def given(model, known, size):
    """Each call of a layer: the layer as a site, and its inputs."""
    layers = {name: part for name, part in model.named_modules() if type(part) in KINDS}
    found, handles = [], []

    def keep(path, module, inputs):
        first = path == "backbone.stem_conv"
        kind = KINDS[type(module)]
        site = site_of(path, kind, module, reads_images=first, layers=layers, known=known)
        found.append((site, inputs))

    for path, module in layers.items():
        handles.append(
            module.register_forward_pre_hook(
                lambda module, inputs, path=path: keep(path, module, inputs)
            )
        )
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return found


def made_with(fault, site, inputs):
    """What the layer makes with the fault; None where the shapes do not allow it."""
    with torch.no_grad(), fault.inject(site):
        try:
            return site.module(*inputs)
        except (RuntimeError, ValueError, IndexError):
            return None


def first_seen(fault, places):
    """The first layer that makes something else with the fault, its inputs and both outputs."""
    for site, inputs in places:
        if fault.fits(site):
            with torch.no_grad():
                right = site.module(*inputs)
            made = made_with(fault, site, inputs)
            if made is None:
                continue
            if made.shape != right.shape:
                return site, inputs, right, made
            if bool((made - right).abs().max() > SEEN * right.abs().max()):
                return site, inputs, right, made
    raise AssertionError(f"{fault.title} is seen nowhere")


def case_of(site, inputs, candidate):
    exact = replace(site, module=copy.deepcopy(site.module).double())
    arguments = tuple(doubled(value.detach() if torch.is_tensor(value) else value)
                      for value in inputs)  # fmt: skip
    return Case(**exact.around(), arguments=arguments, candidate=candidate)


def distance(case, hypothesis):
    if hypothesis.stored is not None:
        return from_stored(case, hypothesis.evaluate, hypothesis.stored) * ROUNDINGS / LONE
    return float(roundings(case, hypothesis.evaluate, ALL).max())


def bits(module):
    state = {name: value.clone() for name, value in module.state_dict().items()}
    return state, {name: value for name, value in vars(module).items() if name[0] != "_"}


def unlike(one, other):
    return [name for name, value in one[0].items() if not torch.equal(value, other[0][name])] + [
        name for name in {**one[1], **other[1]} if one[1].get(name) != other[1].get(name)
    ]


def problems(fault, places):
    """All that is wrong with one fault of the catalogue, in words."""
    before = {id(site.module): bits(site.module) for site, _ in places if fault.fits(site)}
    site, inputs, right, made = first_seen(fault, places)
    told = []
    if changed := unlike(before[id(site.module)], bits(site.module)):
        told.append(f"afterwards {', '.join(changed)} of {site.name} is not as before")
    with torch.no_grad():
        if not torch.equal(site.module(*inputs), right):
            told.append(f"afterwards {site.name} gives something else")
    case = case_of(site, inputs, made)
    own = list(fault.recognise(case, computed(faithful(case))))
    nearest = min((distance(case, hypothesis) for hypothesis in own), default=float("inf"))
    if not nearest <= ROUNDINGS:
        told.append(f"its own hypotheses are {nearest:.3g} roundings away at {site.name}")
    named = diagnose(case)
    if named is None or named.slug not in fault.names:
        told.append(f"at {site.name} it is called {named and named.slug}")
    if named := diagnose(case_of(site, inputs, right)):
        told.append(f"the faithful {site.name} is called {named.slug}")
    return told


def of_each_family():
    """Each fault; of each family the first of every six is not heavy."""
    faults = {name: [one for one in each if one in IN_OUTPUTS] for name, each in FAMILIES.items()}
    sampled = [item for each in faults.values() for item in one_in(6, each, names(each))]
    assert len(sampled) == len(IN_OUTPUTS)
    return sampled


@pytest.mark.parametrize("fault", of_each_family())
def test_what_is_put_in_is_recognised(places, fault):
    assert problems(fault, places) == []


def test_the_check_sees_faults_that_are_wrong(places):
    """A hypothesis of something else, a name that is another's, and one that is not taken out."""
    (relu,) = (fault for fault in CATALOGUE if fault.slug == "relu")
    assert problems(relu, places) == []

    def of_tanh(case, base):
        yield Hypothesis("relu", "ReLU", of_each(case, torch.tanh))

    (told,) = problems(replace(relu, recognise=of_tanh), places)
    assert "its own hypotheses are" in told
    (told,) = problems(replace(relu, slug="toy", alike=frozenset()), places)
    assert "it is called relu" in told

    def ceaseless(slope):
        def change(norm):
            norm.running_mean = norm.running_mean + slope

        return change

    (missing,) = (fault for fault in CATALOGUE if fault.slug == "mean-missing")
    told = problems(replace(missing, change=ceaseless(0.5)), places)
    assert any("afterwards" in item for item in told)


def test_a_fault_that_no_layer_shows_is_seen_to_be_none(places):
    harmless = in_variants(
        "nothing", "nothing", frozenset(KINDS.values()), lambda case, base: [("nothing", base)]
    )
    with pytest.raises(AssertionError, match="nothing is seen nowhere"):
        problems(harmless, places)


@pytest.fixture(scope="module")
def lockstep(tiny_conversion, tiny_checkpoint):
    result = Lockstep(tiny_conversion, tiny_checkpoint / "model")
    yield result
    result.session.close()


@pytest.mark.parametrize("fault", IN_STRUCTURE, ids=names(IN_STRUCTURE))
def test_what_no_output_shows_is_found_in_the_structure(lockstep, places, fault):
    candidate = lockstep.candidate()
    site = next(site for site, _ in places if fault.fits(site))
    site = replace(site, module=candidate.get_submodule(site.name))
    before = bits(site.module)
    with fault.inject(site):
        found = findings(lockstep.pairing(candidate), lockstep.known())
    assert [item.slug for item in found] == [fault.slug]
    assert found[0].place.startswith(site.name)
    assert unlike(before, bits(site.module)) == []
    assert findings(lockstep.pairing(candidate), lockstep.known()) == []


def test_a_fault_that_is_never_put_in_says_why(places):
    without = [fault for fault in CATALOGUE if fault.without is not None]
    assert without
    for fault in without:
        assert len(fault.without) > 20 and not any(fault.fits(site) for site, _ in places)
        with pytest.raises(ValueError, match=fault.slug), fault.inject(places[0][0]):
            pass


def test_a_copy_of_a_layer_with_a_fault_computes_with_its_own_parameters(places):
    (missing,) = (fault for fault in CATALOGUE if fault.slug == "beta-missing")
    site, inputs = next((site, inputs) for site, inputs in places if missing.fits(site))
    with torch.no_grad(), missing.inject(site):
        other = copy.deepcopy(site.module).double()
        other.weight *= 2
        made, again = site.module(*inputs), other(*doubled(list(inputs)))
    assert again.dtype == torch.float64
    torch.testing.assert_close(again, 2 * made.double(), rtol=1e-4, atol=1e-4)


def test_every_fault_is_one_of_its_kind():
    """Two faults with one name are told apart by their titles or by the kind of node."""
    seen = set()
    for fault in CATALOGUE:
        assert isinstance(fault, Fault) and fault.kinds
        for kind in fault.kinds:
            assert (fault.slug, fault.title, kind) not in seen
            seen.add((fault.slug, fault.title, kind))
