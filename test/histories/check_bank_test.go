package histories

import "fmt"

// bankRead is all balances as they were at an instant, by account.
type bankRead struct {
	interval
	Client   int     `json:"client"`
	Node     int     `json:"node"`
	AsOf     string  `json:"as_of,omitempty"` // the timestamp that was asked for; empty: now
	Balances []int   `json:"balances"`
	Outcome  outcome `json:"outcome"`
}

func (r bankRead) String() string {
	when := "now"
	if r.AsOf != "" {
		when = "as of " + r.AsOf
	}
	return fmt.Sprintf("read %s of client %d through n%d %s: %v", r.interval, r.Client, r.Node, when, r.Balances)
}

// checkBank: money is neither made nor lost at any instant, no account is overdrawn,
// and whoever asks for an instant of the past gets the same answer.
func checkBank(reads []bankRead, accounts, each int) (bad []violation) {
	asOf := map[string]bankRead{}
	for _, r := range reads {
		if r.Outcome != happened {
			continue
		}
		sum := 0
		for _, b := range r.Balances {
			sum += b
			if b < 0 {
				bad = append(bad, violationf("bank: an account is overdrawn", "%s", r))
			}
		}
		if sum != accounts*each || len(r.Balances) != accounts {
			bad = append(bad, violationf("bank: the total is wrong", "%d instead of %d in %d of %d accounts; %s", sum, accounts*each, len(r.Balances), accounts, r))
		}
		if r.AsOf == "" {
			continue
		}
		if o, ok := asOf[r.AsOf]; !ok {
			asOf[r.AsOf] = r
		} else if fmt.Sprint(o.Balances) != fmt.Sprint(r.Balances) {
			bad = append(bad, violationf("bank: the past has changed", "%s; but %s", o, r))
		}
	}
	return bad
}
