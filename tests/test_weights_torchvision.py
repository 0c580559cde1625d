"""torchvision's lite R-ASPP beside torchvision itself."""

import numpy as np
import pytest
from peers import difference, peer, randomised, state_of

import keras_deeplab
from keras_deeplab.export import weights as export

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lraspp():
    peer("torchvision")
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    return randomised(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5))


def test_lite_raspp_computes_as_torchvision_does_and_goes_back(lraspp):
    state = state_of(lraspp)
    model = keras_deeplab.load(state, include_preprocessing=False)
    assert model.spec.settings["head"] == "lite_raspp"
    assert model.spec.num_classes == 5
    assert difference(model, lambda images: lraspp(images)["out"]) < 1e-5
    back = export.state_dict(model, "torchvision")
    assert back.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_lite_raspp_with_another_number_of_classes_keeps_all_but_the_scores(lraspp):
    with pytest.warns(UserWarning, match="'feature_projection0'.* start"):
        model = keras_deeplab.load(state_of(lraspp), num_classes=2)
    assert model.output_shape[-1] == 2
