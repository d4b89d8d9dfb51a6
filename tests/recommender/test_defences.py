"""What each defence does to an owner's plan, and the two that fit another ranker."""

from __future__ import annotations

import pytest
import torch

from countermove.errors import ConfigError
from countermove.pixels.jpeg import jpeg
from countermove.pixels.rounding import to_float, to_uint8
from countermove.pixels.squeezes import bit_depth, squeeze_uint8
from countermove.recommender.defence import Plan
from countermove.recommender.defences.amr import AdversarialRanking
from countermove.recommender.defences.robust_features import RobustFeatures
from countermove.recommender.methods import METHODS
from countermove.recommender.rankers.alexrank import AlexRank
from countermove.recommender.rankers.amr import Amr
from countermove.recommender.rankers.dvbpr import Dvbpr
from countermove.recommender.rankers.vbpr import Vbpr
from countermove.recommender.shop import Shop


def plan(spelled: str) -> Plan:
    made = Plan()
    for part in METHODS.compose("countermove", spelled).parts:
        made = part.method(made)
    return made


def test_no_defence_changes_nothing() -> None:
    assert plan("none") == Plan()
    assert plan("amr") == Plan()
    assert plan("robust-features") == Plan()


def test_squeezes_are_applied_in_order_to_uploads_or_to_all(shop: Shop) -> None:
    made = plan("jpeg(quality=30)+bit-depth(bits=3, on=all)")
    assert (len(made.new), len(made.catalogue)) == (2, 1)
    pictures = shop.pictures[:3]
    wanted = bit_depth(to_float(to_uint8(jpeg(to_float(pictures), 30))), 3)
    assert torch.equal(squeeze_uint8(pictures, *made.new), to_uint8(wanted))
    assert torch.equal(squeeze_uint8(pictures), pictures)


def test_amr_answers_vbpr_with_its_own_settings() -> None:
    found = AdversarialRanking(eps=0.3).refit(Vbpr(visual=7, features="small-cnn"))
    assert found == Amr(visual=7, features="small-cnn", eps=0.3)
    with pytest.raises(ConfigError, match="vbpr"):
        AdversarialRanking().refit(AlexRank())


def test_robust_features_change_the_extractor_and_nothing_else() -> None:
    found = RobustFeatures(eps=4 / 255).refit(AlexRank(groups=5))
    extractor = found.extractor()
    assert extractor is not None
    assert (extractor.adversary, extractor.groups) == (4 / 255, 5)
    for model in (Dvbpr(), AlexRank(features="torchvision:alexnet")):
        with pytest.raises(ConfigError, match="extractor"):
            RobustFeatures().refit(model)


def test_an_adapted_extractor_goes_on_from_the_plain_one() -> None:
    model = AlexRank(groups=5)
    found = RobustFeatures(eps=4 / 255, adaptation="mask( sparsity=0.05 )", examples=30).refit(model).extractor()
    assert found is not None
    assert (found.adaptation, found.examples, found.adversary) == ("mask", 30, 4 / 255)
    assert found.plain == model.extractor()
    assert set(found.identity()) - set(found.plain.identity()) == {"adaptation", "examples"}
    bits = AdversarialRanking(adaptation="bitfit").refit(Vbpr())
    assert bits.extractor() == Vbpr().extractor()
    with pytest.raises(ConfigError, match="on plain features"):
        RobustFeatures().refit(bits)


def test_settings_that_came_later_leave_the_keys_of_what_was_played() -> None:
    for name, settings in (("robust-features", {"eps"}), ("amr", {"adversary", "eps", "weight"})):
        (plain,) = METHODS.compose("countermove", name).identity()["parts"]
        assert set(plain["settings"]) == settings
        (few,) = METHODS.compose("countermove", f"{name}(adaptation=full, examples=9)").identity()["parts"]
        assert set(few["settings"]) == settings | {"adaptation", "examples"}


@pytest.mark.parametrize(
    ("spelled", "told"),
    [
        ("robust-features(examples=5)", "give an adaptation"),
        ("robust-features(adaptation=bitfit, examples=-1)", "not below 0"),
        ("robust-features(adaptation=lora+mask)", "adaptation"),
        ("amr(adaptation=bitfit, adversary=parameters)", "all parameters"),
        ("jpeg(quality=0)", "quality"),
        ("jpeg(on=old)", "new"),
        ("bit-depth(bits=8)", "bits"),
        ("gatekeeper(passed=1.0)", "passed"),
        ("robust-features(eps=0)", "eps = 0"),
        ("amr(adversary=pixels)", "pixels"),
    ],
)
def test_bad_settings_are_refused(spelled: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        plan(spelled)


def test_one_gate_has_one_gatekeeper() -> None:
    with pytest.raises(ConfigError, match="gatekeeper"):
        plan("gatekeeper+gatekeeper(quality=50)")
