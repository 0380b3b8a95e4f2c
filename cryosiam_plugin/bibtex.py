"""What to cite, as BibTeX, which Scipion reads from this very text.

@article{Stojanovska2025,
    author  = {Stojanovska, Frosina and Sanchez, Ricardo M. and Jensen, Rasmus K. and Mahamid, Julia and Kreshuk, Anna and Zaugg, Judith B.},
    title   = {CryoSiam: self-supervised representation learning for automated analysis of cryo-electron tomograms},
    journal = {bioRxiv},
    year    = {2025},
    pages   = {2025.11.11.687379},
    doi     = {10.1101/2025.11.11.687379},
    url     = {https://doi.org/10.1101/2025.11.11.687379}
}
"""  # noqa: E501 - Scipion takes the values as they stand, line ends too
