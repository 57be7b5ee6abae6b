"""The MobileNetV3 space of once-for-all."""
