// The departments, in the order of the aisles.
shop.categories = [
  {"id": "rope", "title": "Ropes and slings", "short": "Ropes", "icon": "icons/rope.svg"},
  {"id": "metal", "title": "Carabiners and hardware", "short": "Hardware", "icon": "icons/metal.svg"},
  {"id": "light", "title": "Lights and power", "short": "Lights", "icon": "icons/light.svg"},
  {"id": "cook", "title": "Cooking", "short": "Cooking", "icon": "icons/cook.svg"},
  {"id": "food", "title": "Food", "short": "Food", "icon": "icons/food.svg"},
  {"id": "sleep", "title": "Shelter and sleep", "short": "Shelter", "icon": "icons/sleep.svg"},
  {"id": "care", "title": "First aid and care", "short": "First aid", "icon": "icons/care.svg"},
  {"id": "wear", "title": "Clothing", "short": "Clothing", "icon": "icons/wear.svg"},
  {"id": "map", "title": "Maps and tools", "short": "Maps", "icon": "icons/map.svg"}
];
