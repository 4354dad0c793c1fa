"""Runtimes that compute something else, in a process of their own."""

import os

from benchmarks.runtimes.pytorch import opened, prepared


def open_wrong(case, images, source, wrong):
    prepared(case)
    import torch

    import torch_model

    if wrong == "ending":
        os._exit(7)
    model = torch_model.load(source).eval()
    if wrong == "epsilon":
        for module in model.modules():
            if hasattr(module, "eps"):
                module.eps = 1e-5
    if wrong == "bfloat16":
        model = model.bfloat16()

    def network(given):
        classes, boxes = model(given.bfloat16() if wrong == "bfloat16" else given)
        if wrong == "nan":
            boxes[-1] = torch.full_like(boxes[-1], float("nan"))
        return classes, boxes[:-1] if wrong == "shape" else boxes

    if wrong == "failing":
        return opened(lambda given: 1 / 0, images)
    return opened(network, images)
