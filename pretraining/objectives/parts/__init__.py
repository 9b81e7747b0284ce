"""What objectives are built from: decoder, masks, losses."""
