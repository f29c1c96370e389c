"""How many reference images a product needs: by cross-validation, by growing, or by what other products taught."""
