package builtins

import (
	"crypto/rand"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/ipaddr"
	"github.com/auxten/postgresql-parser/pkg/util/uuid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

func defineMisc(d definitions) {
	pick := func(name string, want int) {
		d.add(name, tree.HomogeneousType{}, tree.FirstNonNullReturnType(), func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			var best tree.Datum = tree.DNull
			for _, x := range a {
				if x != tree.DNull && (best == tree.DNull || Compare(ctx, x, best) == want) {
					best = x
				}
			}
			return best, nil
		}, nullable)
	}
	pick("greatest", 1)
	pick("least", -1)
	d.add("num_nulls", variadic(nil, tAny), tree.FixedReturnType(tInt4), func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		n := 0
		for _, x := range a {
			if x == tree.DNull {
				n++
			}
		}
		return dint(int64(n))
	}, nullable)
	d.add("num_nonnulls", variadic(nil, tAny), tree.FixedReturnType(tInt4), func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		n := 0
		for _, x := range a {
			if x != tree.DNull {
				n++
			}
		}
		return dint(int64(n))
	}, nullable)
	newUUID := func(*tree.EvalContext, tree.Datums) (tree.Datum, error) {
		var u uuid.UUID
		if _, err := rand.Read(u[:]); err != nil {
			return nil, err
		}
		u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
		return tree.NewDUuid(tree.DUuid{UUID: u}), nil
	}
	for _, n := range []string{"gen_random_uuid", "uuid_generate_v4", "uuid_v4"} {
		if n == "uuid_v4" {
			d.scalar(n, nil, tBytes, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
				u, err := newUUID(ctx, a)
				if err != nil {
					return nil, err
				}
				return tree.NewDBytes(tree.DBytes(u.(*tree.DUuid).UUID.GetBytes())), nil
			}, volatile)
			continue
		}
		d.scalar(n, nil, tUUID, newUUID, volatile)
	}
	d.scalar("uuid_nil", nil, tUUID, func(*tree.EvalContext, tree.Datums) (tree.Datum, error) {
		return tree.NewDUuid(tree.DUuid{}), nil
	})
	d.scalar("gen_random_bytes", ts(tInt), tBytes, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		n := num(a[0])
		if n < 1 || n > 1024 {
			return nil, pgerr.New("22023", "Length not in range")
		}
		b := make([]byte, n)
		if _, err := rand.Read(b); err != nil {
			return nil, err
		}
		return tree.NewDBytes(tree.DBytes(b)), nil
	}, volatile)
	rowid := func(ctx *tree.EvalContext, _ tree.Datums) (tree.Datum, error) {
		env, err := getEnv(ctx)
		if err != nil {
			return nil, err
		}
		return dint(env.UniqueRowID())
	}
	d.scalar("unique_rowid", nil, tInt, rowid, volatile)
	d.scalar("unordered_unique_rowid", nil, tInt, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		v, err := rowid(ctx, a)
		if err != nil {
			return nil, err
		}
		// Bit-reverse all but the sign, so that rows spread over the keyspace.
		var r uint64
		for i, x := 0, uint64(num(v)); i < 63; i++ {
			r = r<<1 | x>>i&1
		}
		return dint(int64(r))
	}, volatile)
	d.scalar("pg_typeof", ts(tAny), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return text(typeName(a[0].ResolvedType()))
	}, nullable)

	inet := func(name string, ret *types.T, f func(ip *ipaddr.IPAddr) (tree.Datum, error)) {
		d.scalar(name, ts(tInet), ret, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			ip := a[0].(*tree.DIPAddr).IPAddr
			return f(&ip)
		})
	}
	full := func(ip *ipaddr.IPAddr) byte {
		if ip.Family == ipaddr.IPv4family {
			return 32
		}
		return 128
	}
	host := func(ip *ipaddr.IPAddr) string {
		c := *ip
		c.Mask = full(ip)
		return c.String()
	}
	inet("host", tText, func(ip *ipaddr.IPAddr) (tree.Datum, error) { return text(host(ip)) })
	inet("text", tText, func(ip *ipaddr.IPAddr) (tree.Datum, error) {
		return text(host(ip) + "/" + strconv.Itoa(int(ip.Mask)))
	})
	inet("abbrev", tText, func(ip *ipaddr.IPAddr) (tree.Datum, error) { return text(ip.String()) })
	inet("family", tInt4, func(ip *ipaddr.IPAddr) (tree.Datum, error) {
		if ip.Family == ipaddr.IPv4family {
			return dint(4)
		}
		return dint(6)
	})
	inet("masklen", tInt4, func(ip *ipaddr.IPAddr) (tree.Datum, error) { return dint(int64(ip.Mask)) })
	dip := func(ip ipaddr.IPAddr) (tree.Datum, error) { return tree.NewDIPAddr(tree.DIPAddr{IPAddr: ip}), nil }
	inet("broadcast", tInet, func(ip *ipaddr.IPAddr) (tree.Datum, error) { return dip(ip.Broadcast()) })
	inet("netmask", tInet, func(ip *ipaddr.IPAddr) (tree.Datum, error) { return dip(ip.Netmask()) })
	inet("hostmask", tInet, func(ip *ipaddr.IPAddr) (tree.Datum, error) { return dip(ip.Hostmask()) })
	inet("network", tInet, func(ip *ipaddr.IPAddr) (tree.Datum, error) {
		_, n, err := net.ParseCIDR(host(ip) + "/" + strconv.Itoa(int(ip.Mask)))
		if err != nil {
			return nil, err
		}
		var out ipaddr.IPAddr
		if err := ipaddr.ParseINet(n.String(), &out); err != nil {
			return nil, err
		}
		return dip(out)
	})
	d.scalar("set_masklen", ts(tInet, tInt), tInet, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		ip, n := a[0].(*tree.DIPAddr).IPAddr, num(a[1])
		if n == -1 {
			n = int64(full(&ip))
		}
		if n < 0 || n > int64(full(&ip)) {
			return nil, pgerr.Newf("22023", "invalid mask length: %d", n)
		}
		ip.Mask = byte(n)
		return dip(ip)
	})
	rel := func(name string, f func(a, b *ipaddr.IPAddr) bool) {
		d.scalar(name, ts(tInet, tInet), tBool, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			x, y := a[0].(*tree.DIPAddr).IPAddr, a[1].(*tree.DIPAddr).IPAddr
			return dbool(f(&x, &y))
		})
	}
	rel("inet_same_family", func(a, b *ipaddr.IPAddr) bool { return a.Family == b.Family })
	rel("inet_contained_by_or_equals", func(a, b *ipaddr.IPAddr) bool { return a.ContainedByOrEquals(b) })
	rel("inet_contains_or_equals", func(a, b *ipaddr.IPAddr) bool { return a.ContainsOrEquals(b) })

	defineAdvisory(d)
}

// uniqueRowID makes an id of the time in units of 10 µs and the node, as Env
// implementations may use it.
func uniqueRowID(now time.Time, node int32, last int64) int64 {
	const epoch = 1448884800 // The same start as in CockroachDB's ids.
	ticks := (now.UnixMicro() - epoch*1e6) / 10
	return max(ticks<<15|int64(node&0x7fff), last+1<<15)
}

// NextUniqueRowID returns an id above last for a row made now on a node.
func NextUniqueRowID(node int32, last int64) int64 { return uniqueRowID(time.Now(), node, last) }

// defineAdvisory defines the functions on advisory locks.
func defineAdvisory(d definitions) {
	key := func(a tree.Datums) AdvisoryKey {
		k := AdvisoryKey{A: int64(tree.MustBeDInt(a[0]))}
		if len(a) == 2 {
			k.Pair, k.B = true, int64(tree.MustBeDInt(a[1]))
		}
		return k
	}
	for _, args := range [][]*types.T{ts(tInt), ts(tInt4, tInt4)} {
		for _, xact := range []bool{false, true} {
			for _, shared := range []bool{false, true} {
				mode := AdvisoryMode{Shared: shared, Xact: xact}
				suffix := "advisory_"
				if xact {
					suffix += "xact_"
				}
				suffix += "lock"
				if shared {
					suffix += "_shared"
				}
				d.scalar("pg_"+suffix, args, typVoid, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
					e, err := getEnv(ctx)
					if err != nil {
						return nil, err
					}
					if _, err := e.AdvisoryLock(ctx.Ctx(), key(a), mode); err != nil {
						return nil, err
					}
					return void()
				}, volatile)
				try := mode
				try.Try = true
				d.scalar("pg_try_"+suffix, args, tBool, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
					e, err := getEnv(ctx)
					if err != nil {
						return nil, err
					}
					ok, err := e.AdvisoryLock(ctx.Ctx(), key(a), try)
					return tree.MakeDBool(tree.DBool(ok)), err
				}, volatile)
				if xact {
					continue
				}
				unlock := strings.Replace(suffix, "lock", "unlock", 1)
				d.scalar("pg_"+unlock, args, tBool, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
					e, err := getEnv(ctx)
					if err != nil {
						return nil, err
					}
					return tree.MakeDBool(tree.DBool(e.AdvisoryUnlock(key(a), shared))), nil
				}, volatile)
			}
		}
	}
	d.scalar("pg_advisory_unlock_all", nil, typVoid, func(ctx *tree.EvalContext, _ tree.Datums) (tree.Datum, error) {
		e, err := getEnv(ctx)
		if err != nil {
			return nil, err
		}
		e.AdvisoryUnlockAll()
		return void()
	}, volatile)
	d.scalar("hashtext", ts(tText), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		var h uint32 = 2166136261
		for _, c := range []byte(str(a[0])) {
			h = (h ^ uint32(c)) * 16777619
		}
		return dint(int64(int32(h)))
	})
}

// sizePretty is pg_size_pretty.
func sizePretty(n int64) string {
	abs := n
	if abs < 0 {
		abs = -abs
	}
	if abs < 10*1024 {
		return strconv.FormatInt(n, 10) + " bytes"
	}
	units := []string{"kB", "MB", "GB", "TB", "PB"}
	// Half-rounded at each step, as PostgreSQL does with bit shifts.
	v := n >> 9
	for i, u := range units {
		a := v
		if a < 0 {
			a = -a
		}
		if a < 20*1024-1 || i == len(units)-1 {
			if v < 0 {
				v = -((-v + 1) / 2)
			} else {
				v = (v + 1) / 2
			}
			return strconv.FormatInt(v, 10) + " " + u
		}
		v >>= 10
	}
	return ""
}

// sizeBytes is pg_size_bytes.
func sizeBytes(s string) (int64, error) {
	t := strings.TrimSpace(s)
	i := 0
	for i < len(t) && (t[i] >= '0' && t[i] <= '9' || strings.IndexByte("+-.eE", t[i]) >= 0 && (t[i] != 'e' && t[i] != 'E' || i+1 < len(t) && t[i+1] >= '0' && t[i+1] <= '9')) {
		i++
	}
	f, err := strconv.ParseFloat(t[:i], 64)
	if err != nil {
		return 0, pgerr.Newf("22023", "invalid size: %q", s)
	}
	mul := map[string]float64{"": 1, "bytes": 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40, "pb": 1 << 50}
	m, ok := mul[strings.ToLower(strings.TrimSpace(t[i:]))]
	if !ok {
		return 0, pgerr.Newf("22023", "invalid size: %q", s).WithDetail("Invalid size unit: %q.", strings.TrimSpace(t[i:])).
			WithHint(`Valid units are "bytes", "B", "kB", "MB", "GB", "TB", and "PB".`)
	}
	return int64(f * m), nil
}
