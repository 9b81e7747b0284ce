"""The words that a description may use: sequences, makers, models, techniques."""

# BIDS suffix, or the last word of a file's name, in lower case -> the sequence in words.
SEQUENCES = {
    "t1w": "T1-weighted",
    "t1": "T1-weighted",
    "t1n": "T1-weighted",
    "mprage": "T1-weighted",
    "mp2rage": "MP2RAGE T1-weighted",
    "unit1": "MP2RAGE T1-weighted",
    "t1ce": "contrast-enhanced T1-weighted",
    "t1c": "contrast-enhanced T1-weighted",
    "t1gd": "contrast-enhanced T1-weighted",
    "t2w": "T2-weighted",
    "t2": "T2-weighted",
    "inplanet1": "T1-weighted",
    "inplanet2": "T2-weighted",
    "pdw": "proton-density-weighted",
    "pd": "proton-density-weighted",
    "pdt2": "proton-density- and T2-weighted",
    "flair": "fluid-attenuated inversion recovery (FLAIR)",
    "t2f": "fluid-attenuated inversion recovery (FLAIR)",
    "stir": "short-tau inversion recovery (STIR)",
    "t2star": "T2*-weighted",
    "t2starw": "T2*-weighted",
    "swi": "susceptibility-weighted imaging (SWI)",
    "angio": "MR angiography",
    "mra": "MR angiography",
    "dwi": "diffusion-weighted imaging (DWI)",
    "hbv": "diffusion-weighted imaging (DWI)",
    "adc": "apparent diffusion coefficient (ADC) map",
    "bold": "functional MRI (fMRI)",
    "sbref": "functional MRI (fMRI)",
    "fmri": "functional MRI (fMRI)",
    "cbv": "functional MRI (fMRI)",
    "dce": "dynamic contrast-enhanced (DCE) T1-weighted",
    "dsc": "dynamic susceptibility contrast (DSC) perfusion",
    "asl": "arterial spin labelling (ASL) perfusion",
    "m0scan": "arterial spin labelling (ASL) calibration",
    "t1map": "quantitative T1 map",
    "t2map": "quantitative T2 map",
    "t2starmap": "quantitative T2* map",
    "mtr": "magnetization transfer ratio map",
    "fieldmap": "field map",
}
# Last word of a NIfTI file's name, such as a BIDS suffix, lower case -> what was computed there.
DERIVED_WORDS = {
    "fa": "fractional anisotropy map",
    "colfa": "fractional anisotropy map",
    "t1map": "T1 map",
    "t2map": "T2 map",
    "t2starmap": "T2* map",
    "r1map": "R1 map",
    "r2map": "R2 map",
    "r2starmap": "R2* map",
    "pdmap": "proton density map",
    "mtrmap": "magnetization transfer ratio map",
    "mtr": "magnetization transfer ratio map",
    "mtsat": "magnetization transfer saturation map",
    "chimap": "susceptibility map",
    "cbf": "perfusion map",
    "mtt": "perfusion map",
    "ttp": "perfusion map",
    "phasediff": "phase image",
    "phase1": "phase image",
    "phase2": "phase image",
    "fieldmap": "field map",
    "fieldmaphz": "field map",
    "magnitude": "field-mapping scan",
    "magnitude1": "field-mapping scan",
    "magnitude2": "field-mapping scan",
    "subtraction": "subtraction",
    "mip": "maximum intensity projection",
}
# What a header's maker may be: a part of its text in lower case -> the name that is written.
MANUFACTURERS = {
    "siemens": "Siemens",
    "philips": "Philips",
    "ge medical": "GE",
    "ge healthcare": "GE",
    "general electric": "GE",
    "toshiba": "Toshiba",
    "canon": "Canon",
    "hitachi": "Hitachi",
    "fujifilm": "Fujifilm",
    "united imaging": "United Imaging",
    "uih": "United Imaging",
    "bruker": "Bruker",
    "hyperfine": "Hyperfine",
    "esaote": "Esaote",
    "neusoft": "Neusoft",
    "varian": "Varian",
    "agilent": "Agilent",
    "marconi": "Marconi",
    "picker": "Picker",
    "simulat": "simulated",
    "phantom": "simulated",
}
# Words of scanners' names. Every other word of a model's field is dropped, whatever it says.
_MODEL_NAMES = """
    achieva aera allegra altea amira artist ascent avanto avantofit biograph centurian cima.x
    connectom connectom.x discovery
    dstream echelon elan elition encore espree essenza evolution excelart excite explorer fit flow
    free free.max free.star
    fusion galan genesis gyroscan harmony hd hde hdx hdxt healthcare ingenia intera ix lumina
    magnetom magnus mmr mr mr5300 mr7700 mr450 mr450w mr750 mr750w nova oasis omega optima orian
    panorama pet pioneer plus premier prisma prismafit pro quantum release scanner sempra signa
    skyra skyrafit sola sonata spectra sprint swoop symphony synchro terra terra.x tim titan
    trillium trio triotim twinspeed umr vantage verio vida viato viato.mobile voyager wide
    x xl xr xt
    1.5t 3t 3.0t 7t 560 570 580 588 660 670 680 770 780 790 870 880 890
"""
MODEL_WORDS = frozenset(_MODEL_NAMES.split())

TECHNIQUES = {
    "SE": "spin echo",
    "IR": "inversion recovery",
    "GR": "gradient echo",
    "EP": "echo planar",
}
CONTRAST_AGENTS = {
    "GADOLINIUM": "gadolinium",
    "GD": "gadolinium",
    "IODINE": "iodine",
    "MANGANESE": "manganese",
    "IRON": "iron",
}
