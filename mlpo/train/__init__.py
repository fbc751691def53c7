"""Training: SFT, reward model, DPO and RLOO as TRL does them, with the settings that make sense on one machine."""
