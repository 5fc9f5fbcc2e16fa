"""What a model call cost, by the price list that others keep current."""

from __future__ import annotations

from genai_prices import Usage, calc_price


def price_usd(
    model: str, *, input_tokens: int, output_tokens: int, cache_read_tokens: int, cache_write_tokens: int
) -> float | None:
    """US dollars of one call of an Anthropic model; None for a model without a known price.

    `input_tokens` are those outside of the cache, as the Messages API counts them."""
    # The price list counts cached tokens as a part of the input.
    usage = Usage(
        input_tokens=input_tokens + cache_read_tokens + cache_write_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=cache_read_tokens,
        cache_write_tokens=cache_write_tokens,
    )
    try:
        return float(calc_price(usage, model, provider_id="anthropic").total_price)
    except LookupError:
        return None
