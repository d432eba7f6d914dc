"""handsight: finetune robot policies that see, feel, hear and follow language."""
