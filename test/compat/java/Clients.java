import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.*;

/**
 * Apache Kafka's own Java clients of 4.x, where the tools do not reach: topic
 * ids across a topic's deletion, and a Kafka Streams application with a
 * repartition topic and a changelog (at least once: transactions are to come).
 */
public class Clients {
  static final String BROKERS = System.getenv("BROKERS");
  static final String RUN = Long.toString(ProcessHandle.current().pid());

  static Map<String, Object> config(Object... pairs) {
    Map<String, Object> c = new HashMap<>(Map.of("bootstrap.servers", BROKERS));
    for (int i = 0; i < pairs.length; i += 2) c.put((String) pairs[i], pairs[i + 1]);
    return c;
  }

  static KafkaProducer<String, String> producer(Object... pairs) {
    return new KafkaProducer<>(config(pairs), new StringSerializer(), new StringSerializer());
  }

  static KafkaConsumer<String, String> consumer(Object... pairs) {
    var c = config(pairs);
    c.put("auto.offset.reset", "earliest");
    c.put("isolation.level", "read_committed");
    return new KafkaConsumer<>(c, new StringDeserializer(), new StringDeserializer());
  }

  static void check(boolean ok, String what) {
    if (!ok) throw new AssertionError(what);
  }

  /** Reads until want records have come. */
  static List<ConsumerRecord<String, String>> read(KafkaConsumer<String, String> c, int want) {
    List<ConsumerRecord<String, String>> got = new ArrayList<>();
    long until = System.nanoTime() + Duration.ofSeconds(40).toNanos();
    while (got.size() < want && System.nanoTime() < until) c.poll(Duration.ofMillis(500)).forEach(got::add);
    check(got.size() >= want, got.size() + " records, want " + want);
    return got;
  }

  /** A producer and a consumer that live through deletion and new creation of their topic. */
  static void recreated(Admin admin) throws Exception {
    String topic = "java-recreated-" + RUN;
    admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1))).all().get();
    try (var p = producer("metadata.max.age.ms", 1000); var c = consumer("group.id", "g-" + topic, "metadata.max.age.ms", 1000)) {
      c.subscribe(List.of(topic));
      for (int i = 0; i < 50; i++) p.send(new ProducerRecord<>(topic, "k" + i, "first"));
      p.flush();
      check(read(c, 50).stream().allMatch(r -> r.value().equals("first")), "not the first topic's");
      Uuid before = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
      admin.deleteTopics(List.of(topic)).all().get();
      admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1))).all().get();
      Uuid after = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
      check(!before.equals(after), "the id outlived its topic");
      for (int i = 0; i < 50; i++) p.send(new ProducerRecord<>(topic, "k" + i, "second")).get();
    }
    try (var c = consumer("group.id", "g2-" + topic)) {
      c.subscribe(List.of(topic));
      check(read(c, 50).stream().allMatch(r -> r.value().equals("second")), "the first topic's records are back");
    }
    admin.deleteTopics(List.of(topic)).all().get();
  }

  /** Records are written once for each send, in every codec, by an idempotent producer with five requests in flight. */
  static void idempotent(Admin admin) throws Exception {
    String topic = "java-idempotent-" + RUN;
    admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get();
    for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd"))
      try (var p = producer("compression.type", codec, "enable.idempotence", true, "max.in.flight.requests.per.connection", 5, "batch.size", 500)) {
        for (int i = 0; i < 500; i++) p.send(new ProducerRecord<>(topic, codec, Integer.toString(i)));
      }
    try (var c = consumer()) {
      c.assign(List.of(new TopicPartition(topic, 0)));
      var got = read(c, 2500);
      for (int i = 0; i < 2500; i++) check(got.get(i).offset() == i && got.get(i).value().equals("" + i % 500), "record " + i);
      check(got.size() == 2500, "too many records");
    }
    admin.deleteTopics(List.of(topic)).all().get();
  }

  /** Counts words: a repartition topic that Streams trims, a compacted changelog, its own group protocol. */
  static void streams(Admin admin) throws Exception {
    String in = "java-lines-" + RUN, out = "java-counts-" + RUN;
    admin.createTopics(List.of(new NewTopic(in, 2, (short) 1), new NewTopic(out, 2, (short) 1))).all().get();
    var b = new StreamsBuilder();
    b.stream(in, Consumed.with(Serdes.String(), Serdes.String()))
        .flatMapValues(v -> List.of(v.split(" "))).groupBy((k, w) -> w, Grouped.with(Serdes.String(), Serdes.String()))
        .count().toStream().mapValues(n -> Long.toString(n)).to(out, Produced.with(Serdes.String(), Serdes.String()));
    var c = new Properties();
    c.putAll(config("application.id", "java-streams-" + RUN, "commit.interval.ms", 500, "statestore.cache.max.bytes", 0,
        "state.dir", System.getProperty("java.io.tmpdir") + "/streams-" + RUN, "num.stream.threads", 2));
    try (var p = producer()) {
      for (int i = 0; i < 200; i++) p.send(new ProducerRecord<>(in, "k" + i, "a stream drives a mill"));
    }
    try (var app = new KafkaStreams(b.build(), c); var r = consumer("group.id", "g-" + out)) {
      app.start();
      r.subscribe(List.of(out));
      Map<String, String> counts = new HashMap<>();
      var want = Map.of("a", "400", "stream", "200", "drives", "200", "mill", "200");
      long until = System.nanoTime() + Duration.ofSeconds(90).toNanos();
      while (!counts.equals(want) && System.nanoTime() < until)
        r.poll(Duration.ofMillis(500)).forEach(x -> counts.put(x.key(), x.value()));
      check(counts.equals(want), "counted " + counts);
      app.close(Duration.ofSeconds(20));
      app.cleanUp();
    }
    var internal = admin.listTopics().names().get().stream().filter(t -> t.startsWith("java-streams-" + RUN)).toList();
    check(internal.size() == 2, "internal topics " + internal);
    admin.deleteTopics(internal).all().get();
    admin.deleteTopics(List.of(in, out)).all().get();
  }

  public static void main(String[] args) throws Exception {
    try (var admin = Admin.create(config())) {
      idempotent(admin);
      System.out.println("ok idempotent");
      recreated(admin);
      System.out.println("ok recreated");
      streams(admin);
      System.out.println("ok streams");
    }
    System.exit(0);
  }
}
