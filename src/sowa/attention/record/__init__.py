"""Recording where people look without an eye tracker: blurred pictures in a browser, sharp where somebody clicks."""
