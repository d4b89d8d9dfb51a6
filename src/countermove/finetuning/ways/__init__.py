"""Ways of fitting a trained network to something new, one file each. Importing this loads no torch."""

WAYS = {
    "full": "countermove.finetuning.ways.full:Full",
    "critical-layers": "countermove.finetuning.ways.critical_layers:CriticalLayers",
    "mask": "countermove.finetuning.ways.mask:Mask",
    "lora": "countermove.finetuning.ways.lora:Lora",
    "bitfit": "countermove.finetuning.ways.bitfit:BitFit",
}
