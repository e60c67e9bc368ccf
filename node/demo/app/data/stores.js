// Where an order can be picked up. Altitudes are in metres.
shop.stores = [
  {"id": "valley", "name": "Valley station", "altitude": 780, "hours": "Mon–Sat 8–18", "phone": "+00 555 0100", "way": "Beside the cable car, ground floor."},
  {"id": "village", "name": "Upper village", "altitude": 1240, "hours": "Mon–Fri 9–12, 14–18", "phone": "+00 555 0101", "way": "In the old school; ring if the door is closed."},
  {"id": "pass", "name": "Pass kiosk", "altitude": 2180, "hours": "June to October, daily 10–16", "phone": "+00 555 0102", "way": "At the car park on the south side. No mobile coverage."},
  {"id": "hut", "name": "Glacier hut", "altitude": 2870, "hours": "When the warden is there", "phone": "+00 555 0103", "way": "Four hours from the pass by the marked path."}
];
