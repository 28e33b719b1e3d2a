// The same job as filter-first.js, decoding every record.
export default function parseAll(record) {
  const order = record.json();
  if (!order.urgent) return;
  order.email = "***";
  return { value: order };
}
