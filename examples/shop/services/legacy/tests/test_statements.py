from statements import render

CHARGE = {"id": "ch_1", "amount_cents": 1880, "currency": "GBP", "captured_on": "2025-11-03"}


def test_a_statement_has_one_line_a_charge():
    text = render("HEAD", [CHARGE, CHARGE])
    assert text.count("18.80 GBP") == 2
    assert "Charge ch_1" in text


def test_a_description_is_printed_where_there_is_one():
    assert "Two mugs" in render("HEAD", [{**CHARGE, "description": "Two mugs"}])
