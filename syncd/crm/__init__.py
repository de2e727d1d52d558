"""The CRM's side: events in from Kafka, commands out to Kafka or to its REST API."""
