package export

import (
	"net/netip"
	"slices"
	"testing"

	"holdfast/internal/stack"
)

func parsed(t *testing.T, text string) stack.Stack {
	t.Helper()
	s, _, err := stack.Parse("holdfast.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// placed returns the addresses that PlaceImages gives the containers of an application.
func placed(t *testing.T, s, before stack.Stack, network, app string) []string {
	t.Helper()
	s, err := PlaceImages(s, before, netip.MustParsePrefix(network))
	if err != nil {
		t.Fatal(err)
	}
	return s.Apps[app].At
}

func TestContainersHaveTheLastAddressesOfTheirNetwork(t *testing.T) {
	s := parsed(t, "name: shop\nhosts: {one: {address: 198.18.7.253}, two: {address: 198.18.7.2}}\nnetwork: trusted\nentry: {auth: none}\n"+
		"apps: {shop: {image: shop:1, port: 8000}}")
	want := []string{"198.18.7.254:8000", "198.18.7.252:8000"} // .253 belongs to a host
	if got := placed(t, s, stack.Stack{}, "198.18.7.0/24", "shop"); !slices.Equal(got, want) {
		t.Errorf("they are at %v, want %v", got, want)
	}
}

func TestContainersKeepTheirAddresses(t *testing.T) {
	before := parsed(t, "apps: {shop: {image: shop:1, port: 8000, at: [10.1.2.99:8000, 10.1.2.98:8000]}}")
	now := parsed(t, "apps: {cart: {image: cart:1}, shop: {image: shop:2, port: 9000}}\nroutes: [{path-prefix: /cart, app: cart}, {app: shop}]")
	want := []string{"10.1.2.99:9000", "10.1.2.98:9000"}
	if got := placed(t, now, before, "10.1.2.0/24", "shop"); !slices.Equal(got, want) {
		t.Errorf("they are at %v, want %v", got, want)
	}
	if got := placed(t, now, before, "10.1.2.0/24", "cart"); !slices.Equal(got, []string{"10.1.2.254:8080", "10.1.2.253:8080"}) {
		t.Errorf("the new ones are at %v", got)
	}
	// In another network, or with another number of nodes, they get new addresses.
	if got := placed(t, now, before, "10.1.3.0/24", "shop"); got[0] == want[0] {
		t.Errorf("in another network they are at %v", got)
	}
}

func TestANetworkThatIsTooSmallIsRefused(t *testing.T) {
	s := parsed(t, "apps: {shop: {image: shop:1, nodes: 29}}")
	if _, err := PlaceImages(s, stack.Stack{}, netip.MustParsePrefix("10.1.2.0/27")); err != nil {
		t.Errorf("29 of 32 addresses are free: %v", err)
	}
	s = parsed(t, "apps: {shop: {image: shop:1, nodes: 30}}")
	if _, err := PlaceImages(s, stack.Stack{}, netip.MustParsePrefix("10.1.2.0/27")); err == nil {
		t.Error("30 containers, the network, its gateway and its broadcast address are 33")
	}
}

func TestTheEnvironmentOfAContainer(t *testing.T) {
	s := parsed(t, `
apps:
  shop:
    image: shop:1
    port: 8000
    env: {QUEUE: "${REDIS_URL}", PRICE: "5$$ \"net\"", PORT_TEXT: "port $PORT", UNKNOWN: "$HOME"}
`)
	s, err := PlaceImages(s, stack.Stack{}, netip.MustParsePrefix("10.1.2.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	got := ComposeImages(s)[1].Environment(s, "secret")
	want := `HOLDFAST_NODE="shop-2"
HOST="0.0.0.0"
PORT="8000"
PORT_TEXT="port 8000"
PRICE="5\$ \"net\""
QUEUE="redis://app-shop:secret@redis-master:6378/0"
REDIS_URL="redis://app-shop:secret@redis-master:6378/0"
UNKNOWN="\$HOME"
`
	if got != want {
		t.Errorf("it is\n%s\nwant\n%s", got, want)
	}
}
