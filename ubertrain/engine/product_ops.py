"""Which operations are products: convolutions and matrix products, by name, as they arrive below autograd."""

from typing import Any

PRODUCTS = frozenset(
    f"aten::{name}"
    for name in (
        "convolution",
        "convolution_overrideable",
        "conv_tbc",
        "mm",
        "mv",
        "addmm",
        "addmv",
        "addbmm",
        "bmm",
        "baddbmm",
        "linear",
        "_trilinear",
        "_grouped_mm",
        "_int_mm",
        "_scaled_mm",
        "_scaled_grouped_mm",
        "_flash_attention_forward",
        "_efficient_attention_forward",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_fused_attention_overrideable",
    )
) | {"torchvision::deform_conv2d"}
"""The operations whose outputs are kept: those whose work grows faster than their output."""


def is_product(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the output of this call is kept: a product, not written into a given tensor, that draws no random numbers.

    Attention with dropout is run again: handing out its output would leave the random numbers after it out of step.
    """
    schema = func._schema
    if schema.name not in PRODUCTS or schema.is_mutable:
        return False
    given = {argument.name: value for argument, value in zip(schema.arguments, args, strict=False)} | kwargs
    return not given.get("dropout_p", 0.0)
