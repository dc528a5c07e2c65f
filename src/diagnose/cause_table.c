/* The rows of the table of causes, in the order of CAUSE_CODES. */
#include "diagnose/cause_table.h"

/* The code's text comes from CAUSE_CODES, so that a row cannot carry another's. */
#define CAUSE_TEXT(name, text) static const char text_##name[] = text;
CAUSE_CODES(CAUSE_TEXT)
#define CODE(name) .code = CAUSE_##name, .text = text_##name

const struct cause_info cause_table[CAUSE_COUNT] = {
        {
                CODE(LINK_DOWN),
                .title = "The WAN interface is down or has no carrier",
                .meaning = "The network interface that leads to the Internet is switched off, or it is on "
                           "and sees no link: a pulled cable, a dead switch port, a radio without a network. "
                           "Nothing can leave the node by it, so nothing further was judged.",
                .proof = "The kernel's own account of the interface (rtnetlink): the flag IFF_UP is missing, "
                         "or the carrier flag IFF_LOWER_UP is missing while the operational state is "
                         "\"down\".",
                .not_confused = "A firewall: a firewall does not take the carrier away. A LAN interface that "
                                "is down does not count; only the WAN interface does.",
                .remedy = "Plug in or replace the cable, enable the switch port, or bring the interface up.",
                .by_hand = "ip link show dev INTERFACE\ngridnode diag --verbose",
                .fixed_by = FIXED_BY_NODE,
        },
        {
                CODE(ADDRESS_MISSING),
                .title = "The WAN interface has no usable address",
                .meaning = "The WAN interface carries no IPv4 address, or only a link-local one "
                           "(169.254.0.0/16), which a host gives itself when no DHCP server answers; or the "
                           "source address that was asked for is not on this host.",
                .proof = "The kernel's list of addresses (rtnetlink); or binding to the address fails with "
                         "EADDRNOTAVAIL.",
                .not_confused = "A blocked way: without an address no packet leaves, so nothing can be said "
                                "about what the way would do with it.",
                .remedy = "Give the interface its address in the site file, or find out why DHCP hands out "
                          "none.",
                .by_hand = "ip address show dev INTERFACE\ngridnode diag --verbose",
                .fixed_by = FIXED_BY_NODE,
        },
        {
                CODE(ADDRESS_CONFLICT),
                .title = "Another machine on the WAN segment uses the node's address",
                .meaning =
                        "Two machines claim the same IPv4 address on one segment. Answers meant for the node "
                        "go to either of them by turns, so connections come and go without any pattern.",
                .proof = "An ARP probe for the node's own address (RFC 5227) is answered by a hardware "
                         "address that is not the node's. The foreign hardware address is in the evidence.",
                .not_confused = "Packet loss or a flapping firewall, which leave the ARP probe unanswered.",
                .remedy = "Find the machine with the foreign hardware address and give it, or the node, "
                          "another address.",
                .by_hand = "arping -D -I INTERFACE ADDRESS\ngridnode diag --verbose",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(ROUTE_MISSING),
                .title = "There is no route to the target",
                .meaning = "The node's own routing table has no way to the address, or a route there says "
                           "unreachable, prohibit or blackhole. The packet is refused inside the node.",
                .proof = "The kernel's answer to a route request for that address (RTM_GETROUTE) with the "
                         "WAN source, protocol and port; connecting fails with ENETUNREACH, EHOSTUNREACH, "
                         "EACCES or EINVAL before anything is sent. A route of type unreachable, prohibit or "
                         "blackhole is named as such.",
                .not_confused = "\"Network unreachable\" reported by a router, which arrives as an ICMP "
                                "message with that router's address and is tcp.rejected.",
                .remedy = "Add the default route through the WAN gateway, or remove the route that refuses "
                          "the target.",
                .by_hand = "gridnode route ADDRESS\nip rule; ip route show table all",
                .fixed_by = FIXED_BY_NODE,
        },
        {
                CODE(ROUTE_CAPTURED),
                .title = "A route on another interface carries traffic that is meant for the WAN",
                .meaning = "A route, usually one added for a LAN, covers the address of a DNS server or of "
                           "the control plane. The kernel prefers it because it is more specific, so the "
                           "packets leave by the LAN interface and are lost there. Binding the source "
                           "address to the WAN's does not help: the route decides, not the source.",
                .proof = "The kernel's route for that address, asked with the WAN source, protocol and port, "
                         "leaves by another interface; the route (prefix, next hop, interface) or the policy "
                         "rule and its table are named. Confirmed by comparison: the target fails by route "
                         "and answers when the socket is bound to the WAN device, or its answer is seen "
                         "coming in and discarded by strict reverse-path filtering.",
                .not_confused = "dns.unreachable and tcp.dropped: failures of captured targets follow from "
                                "the route and are void. An overlapping LAN route that a more specific WAN "
                                "route overrules captures nothing.",
                .remedy = "Narrow or remove the LAN route, or add a more specific route for the address "
                          "through the WAN gateway.",
                .by_hand = "gridnode route ADDRESS\ngridnode tcp HOST PORT --interface WAN-INTERFACE",
                .fixed_by = FIXED_BY_NODE,
        },
        {
                CODE(ROUTE_CAPTURE_PENDING),
                .title = "A configured LAN route will capture WAN traffic once its interface comes up",
                .meaning = "The site file holds a LAN route that covers a DNS server or the control plane. "
                           "It does no harm today, because the interface is down or the service has not "
                           "applied it yet; it will as soon as that changes.",
                .proof = "The configured prefix covers the address, no more specific route leads to the WAN, "
                         "and the kernel does not use the route at this moment.",
                .not_confused = "route.captured, where the kernel uses the route already.",
                .remedy = "Change the LAN route in the site file before the interface comes up.",
                .by_hand = "gridnode route ADDRESS",
                .fixed_by = FIXED_BY_NODE,
        },
        {
                CODE(GATEWAY_UNREACHABLE),
                .title = "The default gateway does not answer on the segment",
                .meaning = "The router that should carry everything to the Internet does not react to the "
                           "node's question for its hardware address. It is off, cut off, in another VLAN, "
                           "has another address, or does not hear the node.",
                .proof = "The node's own ARP requests for the gateway go unanswered. An entry in the "
                         "neighbour table is no proof of life: a gateway that is deaf to the node may still "
                         "have asked for it.",
                .not_confused = "A gateway that ignores ping, which is common and harmless: ARP is not ping.",
                .remedy = "Check the gateway, its address, the VLAN and the switch between it and the node.",
                .by_hand = "arping -I INTERFACE GATEWAY\nip neighbour show dev INTERFACE",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(UPSTREAM_DEAD),
                .title = "Nothing beyond the gateway answers",
                .meaning = "The gateway is alive, and beyond it (or beyond a later hop) nothing reacts: no "
                           "DNS server, no address of the control plane, no port. That is an Internet "
                           "connection that is down, or a firewall that lets this node through to nothing at "
                           "all. It stands for all the single failures below it.",
                .proof = "The gateway or that hop answers, while every probe to everything beyond it stays "
                         "silent.",
                .not_confused = "tcp.dropped, where the firewall singles out a port or an address. As long "
                                "as nothing passes, no port is to blame.",
                .remedy = "Restore the Internet connection behind the gateway, or permit this node's address "
                          "through the firewall.",
                .by_hand = "gridnode trace HOST PORT\ngridnode dns NAME @SERVER",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(FIREWALL_LOCAL),
                .title = "This machine's own firewall drops or rejects",
                .meaning = "A packet filter on the node itself (nftables, iptables, a security module) stops "
                           "what goes out. Nothing at the site has to change.",
                .proof = "One of: the SYN is never seen leaving the interface (needs the right to capture); "
                         "the ICMP error comes from one of the node's own addresses; an RST in the server's "
                         "name is seen on the loopback interface and not on the wire; sending fails with "
                         "EPERM.",
                .not_confused = "A drop at the site's firewall: there the packet is seen leaving the node. "
                                "Without the right to capture a silent local drop cannot be told from it, "
                                "and the report says so.",
                .remedy = "Permit the node's outgoing TCP 443 and 8443 and UDP and TCP 53 in its own packet "
                          "filter.",
                .by_hand = "nft list ruleset\ngridnode diag --capture FILE.pcapng",
                .fixed_by = FIXED_BY_NODE,
        },
        {
                CODE(REPLY_DISCARDED),
                .title = "Answers reach the node and its kernel throws them away",
                .meaning = "The server's answer arrives at the node and never reaches the program: an input "
                           "rule of the node's packet filter drops it, or strict reverse-path filtering does "
                           "because it came in by another interface than the route would use.",
                .proof = "The SYN-ACK is seen by capture coming in, and connecting still times out.",
                .not_confused = "tcp.dropped, where no answer ever arrives. Only capture separates the two.",
                .remedy = "Correct the node's input rules, or its routes or rp_filter setting where answers "
                          "come in by another interface.",
                .by_hand = "gridnode diag --capture FILE.pcapng\nsysctl net.ipv4.conf.all.rp_filter; nft "
                           "list ruleset",
                .fixed_by = FIXED_BY_NODE,
        },
        {
                CODE(DNS_UNREACHABLE),
                .title = "A configured DNS server answers neither over UDP nor over TCP 53",
                .meaning = "Questions to this server vanish, or a device on the way refuses them. If another "
                           "configured server answers, the node goes on working with that one.",
                .proof = "Several queries over UDP and a connection over TCP 53 both time out; or a device "
                         "on the way refuses both with ICMP, and its address is named.",
                .not_confused = "dns.refused, where the server itself turns the node away; route.captured, "
                                "where the query never takes the WAN.",
                .remedy = "Allow UDP and TCP 53 from the node to this server, or configure a server that is "
                          "in service.",
                .by_hand = "gridnode dns NAME @SERVER\ngridnode dns NAME @SERVER --tcp",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(DNS_UDP_BLOCKED),
                .title = "DNS over UDP 53 is blocked while TCP 53 works",
                .meaning = "The server is alive and answers over TCP; its UDP answers never come. The node "
                           "falls back to TCP, which is slower.",
                .proof =
                        "For the same server: UDP queries stay without an answer, the TCP query is answered.",
                .not_confused = "Loss: a single lost datagram is asked again before anything is said.",
                .remedy = "Allow UDP 53 from the node to this server.",
                .by_hand = "gridnode dns NAME @SERVER\ngridnode dns NAME @SERVER --tcp",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(DNS_TCP_BLOCKED),
                .title = "DNS over TCP 53 is blocked while UDP 53 works",
                .meaning = "Ordinary answers arrive. Answers too large for UDP cannot be fetched, so "
                           "look-ups may begin to fail when an answer grows.",
                .proof = "For the same server: the UDP query is answered, the TCP query is not.",
                .not_confused = "dns.unreachable, where neither works.",
                .remedy = "Allow TCP 53 from the node to this server (RFC 7766 requires it).",
                .by_hand = "gridnode dns NAME @SERVER --tcp",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(DNS_REFUSED),
                .title = "The DNS server refuses the node, or runs no DNS service",
                .meaning = "The address is reached and says no: the server does not serve this client, or no "
                           "DNS service listens there.",
                .proof = "The answer carries the code REFUSED; or the server's own address answers with ICMP "
                         "port unreachable or with RST.",
                .not_confused = "A refusal by a device on the way, which carries that device's address and "
                                "is dns.unreachable.",
                .remedy = "Permit the node's address in the server's access list, start its DNS service, or "
                          "configure another server.",
                .by_hand = "gridnode dns NAME @SERVER",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(DNS_NO_SUCH_NAME),
                .title = "The DNS server says that the name does not exist, or has no address",
                .meaning = "The server is reached and answers, and denies a name that the control plane has. "
                           "Usually a private server with no forwarder for names outside its own domain, or "
                           "a filter that hides the name.",
                .proof = "The answer is NXDOMAIN, or NOERROR without an address, for a host of the profile.",
                .not_confused = "dns.server_failure (the server tried and failed) and dns.refused (it would "
                                "not try).",
                .remedy = "Let the server forward the control plane's domain to public DNS, or configure a "
                          "server that does.",
                .by_hand = "gridnode dns NAME @SERVER",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(DNS_SERVER_FAILURE),
                .title = "The DNS server fails to resolve the name (SERVFAIL)",
                .meaning = "The server is reached and tries, and cannot get an answer: its forwarder is "
                           "dead, its own way out is blocked, or DNSSEC validation fails there, often "
                           "because of a wrong clock.",
                .proof = "The answer carries the code SERVFAIL, over and over.",
                .not_confused = "dns.unreachable: here the server does answer.",
                .remedy = "Repair the server's forwarders or its own way to public DNS, and check its clock.",
                .by_hand = "gridnode dns NAME @SERVER",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(DNS_WRONG_ANSWER),
                .title = "The DNS answer lies outside the control plane's ranges",
                .meaning =
                        "The server answers with an address that cannot be the control plane's: a sinkhole "
                        "of a filter, a sign-in page, a hijack, or an old internal record. The address is "
                        "not trusted, and what happens there says nothing about the real service.",
                .proof = "The answer is compared with the ranges of the profile. An address that cannot be "
                         "public (loopback, private, unspecified) is named as such.",
                .not_confused = "dns.servers_disagree, used only where the profile names no ranges and "
                                "nothing says which answer is right.",
                .remedy = "Remove the override, sinkhole or filter rule for the control plane's names on "
                          "this server.",
                .by_hand = "gridnode dns NAME @SERVER @OTHER-SERVER",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(DNS_SERVERS_DISAGREE),
                .title = "The configured DNS servers give different answers",
                .meaning = "Two servers answer the same question with addresses that have nothing in common, "
                           "and the profile does not say which ranges are right.",
                .proof = "The sets of addresses are disjoint, asked at the same time, and the profile has no "
                         "ranges.",
                .not_confused = "dns.wrong_answer, which names the wrong server where ranges are known; and "
                                "ordinary load sharing, where the sets overlap.",
                .remedy = "Find out which server is right, and correct or replace the other.",
                .by_hand = "gridnode dns NAME @SERVER @OTHER-SERVER",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(DNS_INTERCEPTED),
                .title = "Port 53 is answered by someone other than the configured server",
                .meaning = "A device on the way takes DNS queries to any address and answers them itself. "
                           "What it says is its own view, whichever server is configured.",
                .proof = "A query sent to an address of the control plane, where no DNS service runs, is "
                         "answered.",
                .not_confused = "A configured server that answers wrongly by itself (dns.wrong_answer).",
                .remedy = "Exempt the node from the redirection of port 53, or let the redirecting device "
                          "resolve the control plane's names correctly.",
                .by_hand = "gridnode dns NAME @CONTROL-PLANE-ADDRESS",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(TCP_DROPPED),
                .title = "Connection requests to an address and port vanish",
                .meaning = "SYN packets to this address and port get no answer of any kind, while something "
                           "else at the same distance answers. That is what a firewall rule with the action "
                           "\"drop\" looks like.",
                .proof = "Several SYNs stay without SYN-ACK, RST or ICMP, while another port or address of "
                         "the control plane, or the gateway, answers. Where it can be had, the last hop that "
                         "is known to have forwarded packets of this flow is named. A drop at that device's "
                         "exit cannot be told from one at the next device's entry.",
                .not_confused = "upstream.dead (nothing at all passes), firewall.local (the SYN never leaves "
                                "the node), reply.discarded (the answer arrives), route.captured (the SYN "
                                "takes another way), and mere loss.",
                .remedy = "Allow outgoing TCP from the node to this address and port on the firewall.",
                .by_hand = "gridnode tcp HOST PORT --source ADDRESS\ngridnode trace HOST PORT",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(TCP_REJECTED),
                .title = "A device on the way refuses the connection with ICMP",
                .meaning =
                        "A firewall or router answers the SYN with an ICMP error such as \"administratively "
                        "prohibited\" or \"port unreachable\". It gives its own address in doing so.",
                .proof = "The ICMP type and code and the sender's address, read from the socket's error "
                         "queue; the sender is neither the target nor the node.",
                .not_confused = "A target without an answer beside rejected ones: routers limit how many "
                                "ICMP errors they send, so silence there is not proof of a drop.",
                .remedy = "Allow outgoing TCP from the node to this address and port on the device that "
                          "refuses.",
                .by_hand = "gridnode tcp HOST PORT\ngridnode trace HOST PORT",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(TCP_RESET),
                .title = "A device on the way refuses the connection with RST",
                .meaning = "The SYN is answered by an RST that the server did not send: a firewall forged it "
                           "in the server's name.",
                .proof = "The host is alive on another port, and the RST's TTL does not fit the host's other "
                         "answers. Distance in hops alone proves nothing: a transparent proxy that works "
                         "answers near as well.",
                .not_confused = "service.down, where the RST is the host's own.",
                .remedy = "Allow outgoing TCP from the node to this address and port on the firewall that "
                          "resets.",
                .by_hand = "gridnode tcp HOST PORT\ngridnode trace HOST PORT",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(SERVICE_DOWN),
                .title = "The control plane's own host refuses or fails",
                .meaning = "The way is open to the very end, and the service there does not work. Nothing at "
                           "the site has to change.",
                .proof = "An RST with the host's own TTL and distance, or an HTTP answer of the 5xx class "
                         "over a connection that leads to the pinned root.",
                .not_confused = "tcp.reset, where a device on the way forges the RST.",
                .remedy = "Start or repair the service on the control plane.",
                .by_hand = "gridnode tcp HOST PORT\ngridnode tls HOST:PORT",
                .fixed_by = FIXED_BY_CONTROL_PLANE,
        },
        {
                CODE(TLS_INTERCEPTED),
                .title = "Someone else's certificate is presented",
                .meaning = "A device on the way ends the TLS connection itself and signs a certificate in "
                           "the control plane's name. The node refuses it: it accepts the pinned root only. "
                           "The product is named where its certificates name it.",
                .proof = "The chain that was presented does not lead to the pinned root. The whole chain is "
                         "kept as evidence.",
                .not_confused = "A transparent proxy that passes TLS through unchanged, which is harmless; "
                                "tls.certificate_expired and tls.name_mismatch, where the chain is genuine.",
                .remedy = "Exempt the control plane's hosts and ranges from TLS inspection for this node.",
                .by_hand = "gridnode tls HOST:PORT",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(TLS_RESET),
                .title = "The connection is cut after the first TLS message",
                .meaning = "TCP opens, and the connection is reset or closed between the node's ClientHello "
                           "and the server's answer.",
                .proof = "An RST or FIN arrives after the ClientHello and before any ServerHello.",
                .not_confused =
                        "tls.sni_filtered, where the same address answers a ClientHello without the name.",
                .remedy = "Let TLS connections from the node to this address and port pass unfiltered.",
                .by_hand = "gridnode tls HOST:PORT",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(TLS_SNI_FILTERED),
                .title = "The connection is cut because of the name that it asks for",
                .meaning = "A filter reads the server name in the ClientHello and cuts connections to this "
                           "name.",
                .proof = "At the same address, a ClientHello without a name or with a neutral name gets a "
                         "ServerHello, and the one with the control plane's name is cut, repeatedly.",
                .not_confused = "tls.reset, where every ClientHello is cut.",
                .remedy = "Permit the control plane's host names in the filter for this node.",
                .by_hand = "gridnode tls HOST:PORT\ngridnode tls ADDRESS:PORT",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(TLS_STALLED),
                .title = "Silence after the first TLS message",
                .meaning = "TCP opens, the ClientHello goes out, and nothing comes back until the deadline. "
                           "A filter swallows it, or the far end hangs.",
                .proof = "No byte arrives after the ClientHello, and smaller segments (TCP_MAXSEG) do not "
                         "help.",
                .not_confused = "path.mtu_black_hole, where smaller segments do help.",
                .remedy = "Let TLS connections from the node to this address and port pass unfiltered.",
                .by_hand = "gridnode tls HOST:PORT",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(PATH_MTU_BLACK_HOLE),
                .title = "Large packets vanish on the way",
                .meaning = "Packets over a certain size disappear without the ICMP message that would tell "
                           "the sender to make them smaller. Connections open and then hang as soon as "
                           "either side sends more than a little.",
                .proof = "The TLS handshake stalls, and passes to the same address with segments clamped "
                         "(TCP_MAXSEG).",
                .not_confused = "tls.stalled, where clamping does not help.",
                .remedy = "Let ICMP \"fragmentation needed\" (type 3 code 4) pass, clamp the MSS on the "
                          "router or tunnel, or correct the MTU.",
                .by_hand = "gridnode tls HOST:PORT\nping -M do -s 1472 ADDRESS",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(TLS_NOT_TLS),
                .title = "Something else answers in plain text",
                .meaning = "The port is open, and what answers is not TLS: a sign-in page, a proxy's error, "
                           "another service's banner.",
                .proof = "The first bytes that come back are not a TLS record. They are shown.",
                .not_confused = "A TLS server with a wrong certificate (tls.intercepted).",
                .remedy = "Stop redirecting this port for the node, or correct the forwarding rule that "
                          "leads to the wrong service.",
                .by_hand = "gridnode tls HOST:PORT",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(TLS_NAME_MISMATCH),
                .title = "A genuine certificate for another name is presented",
                .meaning = "The chain leads to the pinned root, but the certificate belongs to another "
                           "service of the control plane. The address is that other service's.",
                .proof = "The chain's signatures lead to the pinned root; the leaf's names do not include "
                         "the host.",
                .not_confused =
                        "tls.intercepted: nobody without the control plane's key could sign this chain.",
                .remedy =
                        "Correct the DNS record or the forwarding that leads this name to the wrong address.",
                .by_hand = "gridnode tls HOST:PORT\ngridnode dns HOST @SERVER",
                .fixed_by = FIXED_BY_CONTROL_PLANE,
        },
        {
                CODE(TLS_CERTIFICATE_EXPIRED),
                .title = "The control plane's genuine certificate has expired",
                .meaning = "Chain and name are right, and the certificate's time is over. Nothing at the "
                           "site has to change.",
                .proof = "The chain leads to the pinned root, the name fits, the end of validity has passed, "
                         "and the node's clock agrees with the time that peers state where they state one.",
                .not_confused = "clock.wrong, where the node's clock is off and the certificate is fine.",
                .remedy = "Renew the certificate on the control plane.",
                .by_hand = "gridnode tls HOST:PORT\ndate -u",
                .fixed_by = FIXED_BY_CONTROL_PLANE,
        },
        {
                CODE(CLOCK_WRONG),
                .title = "The node's clock is wrong",
                .meaning = "Certificates look expired or not yet valid only because the node has the wrong "
                           "time. No firewall is to blame.",
                .proof = "The chain is genuine, not valid at the node's time, and valid at the time that the "
                         "peers' own answers state (HTTP Date). The difference is given.",
                .not_confused = "tls.certificate_expired, where the node's time agrees with the peers'.",
                .remedy = "Set the node's clock, and let it reach a time server (UDP 123).",
                .by_hand = "date -u\ntimedatectl status",
                .fixed_by = FIXED_BY_NODE,
        },
        {
                CODE(TLS_CLIENT_REJECTED),
                .title = "The control plane refuses the node's own certificate",
                .meaning = "The server proves itself and turns the node away: the node's certificate has "
                           "expired, was revoked, was issued by someone else, or was never sent. The way is "
                           "open.",
                .proof = "A TLS alert about the certificate after the node sent its own, or the server's "
                         "HTTP answer 400 for the certificate. The certificate's serial number and expiry "
                         "are given.",
                .not_confused =
                        "http.unauthorized, where the certificate is accepted and the node is not known.",
                .remedy = "Renew the node's certificate, or register the node again.",
                .by_hand = "gridnode tls HOST:PORT\nopenssl x509 -noout -serial -enddate -in CERTIFICATE",
                .fixed_by = FIXED_BY_NODE,
        },
        {
                CODE(HTTP_CAPTIVE_PORTAL),
                .title = "A sign-in page stands in the way",
                .meaning = "The network lets nobody out before somebody accepts terms or signs in on a web "
                           "page. The node cannot do that.",
                .proof = "A plain request is answered with a redirect to a foreign host, or with status 511 "
                         "(RFC 6585).",
                .not_confused = "http.filtered, a block page that no sign-in lifts.",
                .remedy = "Exempt the node, by hardware or IP address, from the sign-in page.",
                .by_hand = "curl -i http://HOST/",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(HTTP_PROXY_REQUIRED),
                .title = "Only a proxy gets out",
                .meaning = "Direct connections do not get out; a web proxy does, or something on the way "
                           "demands that one be used and signed in to.",
                .proof = "An answer 407, or 403 with a proxy's headers; or direct connections fail while "
                         "CONNECT through the configured proxy passes.",
                .not_confused =
                        "tcp.dropped alone: without a proxy that passes there is no proof that one is meant.",
                .remedy = "Allow the node's direct connections, or let the node use the proxy without "
                          "sign-in and without inspection.",
                .by_hand = "gridnode tcp HOST PORT\ncurl -v -x PROXY https://HOST/",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(HTTP_FILTERED),
                .title = "A filter answers with its block page",
                .meaning =
                        "A web filter answers the request itself, in the control plane's place, and says no.",
                .proof = "A 403 whose body or headers are a filter's, not the control plane's.",
                .not_confused = "http.unauthorized, which is the control plane's own answer.",
                .remedy = "Permit the control plane's hosts in the web filter for this node.",
                .by_hand = "gridnode tls HOST:PORT\ncurl -i https://HOST/",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(HTTP_UNAUTHORIZED),
                .title = "The control plane does not know the node",
                .meaning = "The way is open and the control plane answers: it has no such node, or has "
                           "locked it out.",
                .proof = "401 or 403 with a problem document (RFC 9457) whose type ends in "
                         "/node-not-authorized.",
                .not_confused = "http.filtered, a block page by someone else.",
                .remedy = "Register or unlock the node on the control plane.",
                .by_hand = "gridnode diag --verbose",
                .fixed_by = FIXED_BY_CONTROL_PLANE,
        },
        {
                CODE(TRANSFER_CUT),
                .title = "Connections open, and bulk data is cut or stalls",
                .meaning = "Small exchanges work, and a larger download ends early or stands still: a size "
                           "limit, a scanner that holds files back, a session timer, a shaper.",
                .proof = "On the profile's payload request, bytes stop at a repeatable count or fall below "
                         "the minimum rate.",
                .not_confused = "path.mtu_black_hole, which stops the handshake already; path.slow and "
                                "path.lossy, where all the data arrives.",
                .remedy = "Lift the size limit, content scanning or session limit for the control plane's "
                          "hosts.",
                .by_hand = "gridnode diag --verbose",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(PATH_LOSSY),
                .title = "The way loses packets",
                .meaning = "Everything works in the end, with repeated attempts. A poor line, not a block.",
                .proof = "Some attempts to targets that do answer went unanswered; the share is given.",
                .not_confused = "tcp.dropped: a target that answers once is not dropped.",
                .remedy = "Have the line checked where the loss hurts.",
                .by_hand = "gridnode trace HOST PORT\nmtr --tcp --port PORT HOST",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(PATH_SLOW),
                .title = "The way is slow",
                .meaning = "Everything works, with long delays: a satellite link, a full line, a far detour.",
                .proof = "Round-trip times of the targets that answer; the median and the worst are given.",
                .not_confused = "A block: whatever answers late still answers.",
                .remedy = "Have the line checked if such delays are not expected at this site.",
                .by_hand = "gridnode trace HOST PORT",
                .fixed_by = FIXED_BY_SITE,
        },
        {
                CODE(UNDETERMINED),
                .title = "The evidence does not separate two or more causes",
                .meaning = "Something fails, and what was measured fits more than one cause. The candidates "
                           "are listed with the measurement that would separate them. A wrong name would be "
                           "worse than none.",
                .proof = "A service fails and no cause is established by the rules of this table.",
                .not_confused = "A healthy service that was not tested in time, which is \"not-tested\".",
                .remedy = "Run the measurement that is named, with the right to capture or a longer budget, "
                          "and diagnose again.",
                .by_hand = "gridnode diag --budget 20 --verbose\ngridnode trace HOST PORT",
                .fixed_by = FIXED_BY_NODE,
        },
};
