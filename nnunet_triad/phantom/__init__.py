"""Digital phantoms: the embedded data, made from the ICBM152 volumes that nilearn ships."""
