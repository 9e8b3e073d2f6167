/*
description: >-
  Whether the difference between two values may be chance, of each of which the 95 % confidence band is known: whether
  the band of the difference holds 0 (the square-and-add method; R. G. Newcombe, Interval estimation for the difference
  between independent proportions, Statistics in Medicine 17, 1998; G. Y. Zou and A. Donner, Construction of confidence
  limits about effect measures, Statistics in Medicine 27, 2008). Bands that overlap may still tell values apart.
parameters: [value, low, high, value_before, low_before, high_before]
returns: value
*/

select
    value - value_before - sqrt((value - low) * (value - low) + (high_before - value_before) * (high_before - value_before)) <= 0
    and value - value_before + sqrt((high - value) * (high - value) + (value_before - low_before) * (value_before - low_before)) >= 0
