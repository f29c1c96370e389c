"""Recording where people look without an eye tracker: blurred images in a browser, sharp where somebody clicks."""
