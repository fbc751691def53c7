"""The data line, one module a step: prompts -> translate -> complete -> score -> pair -> mix."""
