"""What Kitada and Iyatomi (2021) report of attention: their Table 2 and Figure 4."""
