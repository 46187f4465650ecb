"""The bundled checkpoint and its model card."""
