/*
description: >-
  A share with its 95 % confidence band: the share of so many would lie in it 19 times of 20 by chance alone. Wilson's
  score interval (E. B. Wilson, Probable inference, JASA 22, 1927; recommended by Brown, Cai and DasGupta, Interval
  estimation for a binomial proportion, Statistical Science 16, 2001); z is 1.959964.
parameters: [part, whole]
returns: value
*/

select {
    'share': part / whole,
    'low': greatest(
        (part / whole + 1.920729 / whole - 1.959964 * sqrt(part * (whole - part) / (1.0 * whole * whole * whole) + 0.960365 / (1.0 * whole * whole)))
        / (1 + 3.841459 / whole),
        0
    ),
    'high': least(
        (part / whole + 1.920729 / whole + 1.959964 * sqrt(part * (whole - part) / (1.0 * whole * whole * whole) + 0.960365 / (1.0 * whole * whole)))
        / (1 + 3.841459 / whole),
        1
    )
}
