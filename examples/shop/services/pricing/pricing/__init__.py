"""What things cost. Written by the data team, which joins traces by hand."""
