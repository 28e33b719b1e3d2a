// Keeps earthquakes of magnitude 4.5 and more, as one flat line each.
export default function (record) {
  const quake = record.json();
  if (!(quake.properties.mag >= 4.5)) return;
  const [longitude, latitude, depth] = quake.geometry.coordinates;
  return {
    value: { magnitude: quake.properties.mag, place: quake.properties.place, longitude, latitude, depth },
    headers: [...record.headers, ["source", "usgs"]],
  };
}
