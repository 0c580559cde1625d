"""The classifiers that training starts from, which several models share."""

from keras_deeplab.published.files import IMAGENET, UNKNOWN, google_file, keras_file, pytorch_file

_MOBILENET_V2 = ("mobilenet_v2_torchvision", "mobilenet_v2_vainf", "mobilenet_v2_jfzhang95")
CLASSIFIERS = (
    # name, file, MB, result, backbone
    google_file(IMAGENET, "xception_41_2018_05_09", 288, UNKNOWN, "xception_41"),
    google_file(IMAGENET, "deeplabv3_xception_2018_01_04", 447, UNKNOWN, "xception_65"),
    google_file("coco", "xception_65_coco_pretrained_2018_10_02", 292, UNKNOWN, "xception_65"),
    google_file(IMAGENET, "xception_71_2018_05_09", 474, UNKNOWN, "xception_71"),
    google_file(IMAGENET, "resnet_v1_50_2018_05_04", 274, UNKNOWN, "resnet_v1_50_beta"),
    google_file(IMAGENET, "resnet_v1_101_2018_05_04", 477, UNKNOWN, "resnet_v1_101_beta"),
    # name, file, MiB, result, backbones; the first weights of each (IMAGENET1K_V1), from which torchvision's own
    # DeepLabs start.
    pytorch_file(IMAGENET, "resnet18-f37072fd", 44.661, "69.76 % top 1", "resnet18"),
    pytorch_file(IMAGENET, "resnet34-b627a593", 83.275, "73.31 % top 1", "resnet34"),
    pytorch_file(IMAGENET, "resnet50-0676ba61", 97.781, "76.13 % top 1", "resnet50"),
    pytorch_file(IMAGENET, "resnet101-63fe2227", 170.511, "77.37 % top 1", "resnet101"),
    pytorch_file(IMAGENET, "resnet152-394f9c45", 230.434, "78.31 % top 1", "resnet152"),
    pytorch_file(IMAGENET, "vgg11-8a719046", 506.84, "69.02 % top 1", "vgg11"),
    pytorch_file(IMAGENET, "vgg13-19584684", 507.545, "69.93 % top 1", "vgg13"),
    pytorch_file(IMAGENET, "vgg16-397923af", 527.796, "71.59 % top 1", "vgg16", "vgg16_coincheung"),
    pytorch_file(IMAGENET, "vgg19-dcbb9e9d", 548.051, "72.38 % top 1", "vgg19"),
    pytorch_file(IMAGENET, "vgg11_bn-6002323d", 506.881, "70.37 % top 1", "vgg11_bn"),
    pytorch_file(IMAGENET, "vgg13_bn-abd245e5", 507.59, "71.59 % top 1", "vgg13_bn"),
    pytorch_file(IMAGENET, "vgg16_bn-6c64b313", 527.866, "73.36 % top 1", "vgg16_bn"),
    pytorch_file(IMAGENET, "vgg19_bn-c79401a0", 548.143, "74.22 % top 1", "vgg19_bn"),
    pytorch_file(IMAGENET, "mobilenet_v2-b0353104", 13.555, "71.88 % top 1", *_MOBILENET_V2),
    pytorch_file(IMAGENET, "mobilenet_v3_large-8738ca79", 21.114, "74.04 % top 1", "mobilenet_v3_large"),
    pytorch_file(IMAGENET, "mobilenet_v3_small-047dcff4", 9.829, "67.67 % top 1", "mobilenet_v3_small"),
    # file, MB, MD5, result, backbone
    keras_file(
        "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        58.9,
        "6d6bbae143d832006294945121d1f1fc",
        "71.27 % top 1",
        "vgg16_caffe",
    ),
    keras_file(
        "vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        80.1,
        "253f8cb515780f3b799900260a226db6",
        "71.26 % top 1",
        "vgg19_caffe",
    ),
)
