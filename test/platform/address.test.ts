// address.ts: one meaning for each way to write an address, and a way out for each that is none.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  formatHostPort,
  isFault,
  parseHostPort,
  parseUnixSocket,
  parseWebAddress,
  portOf,
  serverName,
  shownAddress,
  splitCredentials,
} from "../../agent/platform/address.ts";

const ports = fc.integer({ min: 1, max: 65_535 });
const hosts = fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6());

describe("parseHostPort()", () => {
  test("reads what formatHostPort() writes, of every host and port", () => {
    fc.assert(
      fc.property(hosts, ports, (host, port) => {
        expect(parseHostPort(formatHostPort({ host, port }))).toEqual({ host, port });
      }),
    );
  });

  test("accepts ports from 1 to 65535 and no other, 0 where any free one will do", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 200_000 }), (port) => {
        expect(isFault(parseHostPort(`h:${port}`))).toBe(port < 1 || port > 65_535);
        expect(isFault(parseHostPort(`h:${port}`, { anyPort: true }))).toBe(port > 65_535);
      }),
    );
  });

  test("never throws, and never finds an address in a text with a user name", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (one, other) => {
        parseHostPort(one);
        expect(parseHostPort(`${one}@${other}`)).toMatchObject({
          hint: expect.stringContaining("bearerFile"),
        });
      }),
    );
  });

  test.each([
    ["localhost", 'add the port, for example "localhost:8000"'],
    ["::1", 'an IPv6 address stands in brackets: "[::1]:8000"'],
    ["[::1]", 'add the port, for example "[::1]:8000"'],
    ["[h]:1", 'for example "localhost:8000" or "[::1]:8000"'],
    ["http://h:1", 'leave out "http://"'],
    ["h:1/metrics", 'for example "localhost:8000"'],
    ["h:70000", 'for example "h:8000"'],
    ["h:port", 'for example "h:8000"'],
    ["h: 1", 'for example "localhost:8000"'],
    ["h:0x10", 'for example "h:8000"'],
    [":8000", 'for example "localhost:8000" or "[::1]:8000"'],
    ["*:8000", 'for example "localhost:8000" or "[::1]:8000"'],
    ["256.0.0.1:8000", 'for example "localhost:8000" or "[::1]:8000"'],
    ["-h:8000", 'for example "localhost:8000" or "[::1]:8000"'],
    ["", 'for example "localhost:8000"'],
  ])("says of %j: %s", (text, hint) => {
    expect(parseHostPort(text)).toMatchObject({ hint });
  });

  test("takes a default for a port that is left out, not for one that is wrong", () => {
    expect(parseHostPort("h", { defaultPort: 5555 })).toEqual({ host: "h", port: 5555 });
    expect(isFault(parseHostPort("h:", { defaultPort: 5555 }))).toBe(true);
  });
});

describe("parseWebAddress()", () => {
  test("agrees with the URL of the platform on every web address without a user name", () => {
    fc.assert(
      fc.property(
        fc.webUrl({ authoritySettings: { withPort: true, withIPv4: true, withIPv6: true } }),
        (text) => {
          const url = new URL(text);
          if (url.port === "0") return;
          const port = Number(url.port) || (url.protocol === "https:" ? 443 : 80);
          expect(parseWebAddress(text)).toMatchObject({ secure: url.protocol === "https:", port });
        },
      ),
    );
  });

  test.each([
    ["http://u:p@h:1/x", "bearerFile"],
    ["ftp://h:1", "http://localhost:8000"],
    ["http://", "localhost:8000"],
    ["http://h:99999/x", "http"],
    ["http://h:1/a b", "http://localhost:8000/metrics"],
  ])("says how to mend %j", (text, hint) => {
    const parsed = parseWebAddress(text);
    expect(isFault(parsed) ? `${parsed.wanted} ${parsed.hint}` : "").toContain(hint);
  });
});

test.each([
  ["unix:/run/x.sock", { socket: "/run/x.sock" }],
  ["unix:///run/x.sock", { socket: "/run/x.sock" }],
  ["unix:/run/x.sock:/metrics", { socket: "/run/x.sock", page: "/metrics" }],
  ["unix:run/x.sock", undefined],
  ["/run/x.sock", undefined],
])("parseUnixSocket() reads %s", (text, socket) => {
  expect(parseUnixSocket(text)).toEqual(socket);
});

test.each([
  ["h:1", 1],
  ["[::1]:8000", 8000],
  ["dns:///h:50051", 50_051],
  ["grpc://h:50051", 50_051],
  ["https://h/x", 443],
  ["http://127.0.0.1:9464/metrics?a=b:1", 9464],
  ["unix:/run/x", undefined],
  ["localhost", undefined],
  ["", undefined],
])("portOf(%j) is %s", (address, port) => {
  expect(portOf(address)).toBe(port);
});

describe("shownAddress()", () => {
  const secret = fc.stringMatching(/^[A-Za-z0-9._~-]{8,20}$/);

  test("shows no user name, no password and nothing of a query that may be a secret", () => {
    fc.assert(
      fc.property(
        hosts,
        ports,
        secret,
        secret,
        fc.stringMatching(/^[a-z_-]{1,12}$/),
        (host, port, one, other, name) => {
          const place = formatHostPort({ host, port });
          const shown = shownAddress(
            `https://${one}:${other}@${place}/metrics?${name}x=${other}&sig=${one}#top`,
          );
          expect(shown).toContain(`@${place}/metrics?${name}x=`);
          expect(shown.replace(place, "")).not.toMatch(new RegExp(`${escaped(one)}|${escaped(other)}`));
        },
      ),
    );
  });

  test("keeps what says which page is meant, and every address without secrets", () => {
    const address = "http://h:1/metrics?name[]=a&module=b&model=c";
    expect(shownAddress(address)).toBe(address);
    fc.assert(
      fc.property(hosts, ports, (host, port) => {
        const place = formatHostPort({ host, port });
        for (const one of [place, `http://${place}`, `unix:/run/${port}:/m`])
          expect(shownAddress(one)).toBe(one);
      }),
    );
  });

  test("splitCredentials() gives what is sent, and the address it is sent to", () => {
    expect(splitCredentials("http://u%40x:p@h:1/m?a=b@c")).toEqual({
      address: "http://h:1/m?a=b@c",
      credentials: "u@x:p",
    });
    expect(splitCredentials("h:1")).toEqual({ address: "h:1" });
  });
});

function escaped(text: string): string {
  return text.replaceAll(/[.~-]/g, "\\$&");
}

describe("serverName()", () => {
  test.each([
    ["http://localhost:8000", "vllm:8000"],
    ["http://127.0.0.1:8000/metrics", "vllm:8000"],
    ["https://[::1]:8000/metrics", "vllm:8000"],
    ["localhost:8001", "vllm:8001"],
    ["http://localhost", "vllm:80"],
    ["http://localhost:8000/prometheus/metrics", "vllm:8000/prometheus/metrics"],
    ["http://gpu7:8000/metrics", "vllm@gpu7:8000"],
    [
      "http://reader:secret@gpu7:8000/metrics?api_key=secret",
      "vllm@********@gpu7:8000/metrics?api_key=********",
    ],
    ["dns:///gpu7:8001", "vllm@gpu7:8001"],
    ["http://127.example.org:8000", "vllm@127.example.org:8000"],
    ["unix:/run/vllm.sock", "vllm@unix:/run/vllm.sock"],
  ])("of %s is %s", (address, name) => {
    expect(serverName("vllm", address)).toBe(name);
  });

  test("is of one place only, whatever its scheme and its name of this host", () => {
    const places = fc.record({
      scheme: fc.constantFrom("http://", "https://"),
      host: fc.constantFrom("localhost", "127.0.0.1", "[::1]", "gpu7", "10.0.0.7"),
      port: fc.constantFrom("", ":80", ":8000"),
      path: fc.constantFrom("", "/metrics", "/prometheus/metrics"),
    });
    const meant = ({
      scheme,
      host,
      port,
      path,
    }: {
      scheme: string;
      host: string;
      port: string;
      path: string;
    }): string => {
      const isHere = /^(localhost|127|\[)/.test(host);
      // Elsewhere a name shows the port that was written; here it shows the one that is asked.
      const number = isHere && port === "" ? (scheme === "http://" ? ":80" : ":443") : port;
      return `${isHere ? "here" : host}${number}${path === "/metrics" ? "" : path}`;
    };
    fc.assert(
      fc.property(places, places, (one, other) => {
        const nameOf = (each: typeof one): string =>
          serverName("vllm", `${each.scheme}${each.host}${each.port}${each.path}`);
        expect(nameOf(one) === nameOf(other)).toBe(meant(one) === meant(other));
      }),
    );
  });
});
