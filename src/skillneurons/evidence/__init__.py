"""The experiments of the paper's sections 4 and 5 and its appendices, each with its control; one a module."""
