"""What Zhong et al. (2023) report of mixed strategies: their Tables 1 to 5 and Figure 3."""
