package builtins

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"hash/fnv"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// maxResultBytes bounds the text that one call may produce (PostgreSQL: 1 GB).
const maxResultBytes = 1 << 28

func errTooLong() error {
	return pgerr.New(pgerr.ProgramLimitExceeded, "requested length too large")
}

func defineStrings(d definitions) {
	strInt := func(names []string, f func(string) int64) {
		d.same(names, ts(tText), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) { return dint(f(str(a[0]))) })
	}
	strInt([]string{"length", "char_length", "character_length"}, func(s string) int64 { return int64(utf8.RuneCountInString(s)) })
	strInt([]string{"octet_length"}, func(s string) int64 { return int64(len(s)) })
	strInt([]string{"bit_length"}, func(s string) int64 { return int64(len(s)) * 8 })
	strInt([]string{"ascii"}, func(s string) int64 {
		if s == "" {
			return 0
		}
		r, _ := utf8.DecodeRuneInString(s)
		return int64(r)
	})
	for _, n := range []string{"length", "octet_length", "bit_length"} {
		mul := int64(1)
		if n == "bit_length" {
			mul = 8
		}
		d.scalar(n, ts(tBytes), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			return dint(mul * int64(len(*a[0].(*tree.DBytes))))
		})
		d.scalar(n, ts(tBit), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			bits := int64(a[0].(*tree.DBitArray).BitLen())
			if n == "octet_length" {
				bits = (bits + 7) / 8
			}
			return dint(bits)
		})
	}
	d.scalar("length", ts(tBytes, tText), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return dint(int64(utf8.RuneCountInString(string(*a[0].(*tree.DBytes)))))
	})
	strStr := func(name string, f func(string) string) {
		d.scalar(name, ts(tText), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) { return text(f(str(a[0]))) })
	}
	strStr("lower", strings.ToLower)
	strStr("upper", strings.ToUpper)
	strStr("initcap", initcap)
	strStr("reverse", reverse)
	strStr("quote_ident", QuoteIdent)
	strStr("quote_literal", quoteLiteral)
	d.scalar("quote_literal", ts(tAny), tText, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return text(quoteLiteral(anyText(ctx, a[0])))
	})
	d.scalar("quote_nullable", ts(tAny), tText, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		if a[0] == tree.DNull {
			return text("NULL")
		}
		return text(quoteLiteral(anyText(ctx, a[0])))
	}, nullable)
	strStr("unistr", func(s string) string { return s })
	strStr("to_ascii", func(s string) string { return s })

	d.scalar("chr", ts(tInt), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		switch n := num(a[0]); {
		case n == 0:
			return nil, pgerr.New("54000", "null character not permitted")
		case n < 0 || n > unicode.MaxRune:
			return nil, pgerr.Newf("54000", "requested character too large for encoding: %d", n)
		default:
			return text(string(rune(n)))
		}
	})
	d.scalar("repeat", ts(tText, tInt), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		s, n := str(a[0]), num(a[1])
		if n <= 0 {
			return text("")
		}
		if int64(len(s))*n > maxResultBytes || n > maxResultBytes {
			return nil, errTooLong()
		}
		return text(strings.Repeat(s, int(n)))
	})
	for _, n := range []string{"substr", "substring"} {
		d.scalar(n, ts(tText, tInt), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			return text(substr(str(a[0]), num(a[1]), -1))
		})
		d.scalar(n, ts(tText, tInt, tInt), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			if num(a[2]) < 0 {
				return nil, pgerr.New("22011", "negative substring length not allowed")
			}
			return text(substr(str(a[0]), num(a[1]), num(a[2])))
		})
		d.scalar(n, ts(tBytes, tInt), tBytes, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			lo, _ := substrBounds(num(a[1]), -1, int64(len(*a[0].(*tree.DBytes))))
			return tree.NewDBytes((*a[0].(*tree.DBytes))[lo:]), nil
		})
		d.scalar(n, ts(tBytes, tInt, tInt), tBytes, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			if num(a[2]) < 0 {
				return nil, pgerr.New("22011", "negative substring length not allowed")
			}
			lo, hi := substrBounds(num(a[1]), num(a[2]), int64(len(*a[0].(*tree.DBytes))))
			return tree.NewDBytes((*a[0].(*tree.DBytes))[lo:hi]), nil
		})
	}
	d.scalar("left", ts(tText, tInt), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		r := []rune(str(a[0]))
		n := num(a[1])
		if n < 0 {
			n = max(int64(len(r))+n, 0)
		}
		return text(string(r[:min(n, int64(len(r)))]))
	})
	d.scalar("right", ts(tText, tInt), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		r := []rune(str(a[0]))
		n := num(a[1])
		if n < 0 {
			n = max(int64(len(r))+n, 0)
		}
		return text(string(r[int64(len(r))-min(n, int64(len(r))):]))
	})
	pad := func(name string, left bool) {
		f := func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			fill := " "
			if len(a) > 2 {
				fill = str(a[2])
			}
			n := num(a[1])
			if n > maxResultBytes {
				return nil, errTooLong()
			}
			return text(padText(str(a[0]), int(max(n, 0)), fill, left))
		}
		d.scalar(name, ts(tText, tInt), tText, f)
		d.scalar(name, ts(tText, tInt, tText), tText, f)
	}
	pad("lpad", true)
	pad("rpad", false)
	trim := func(name string, f func(s, cut string) string) {
		d.scalar(name, ts(tText), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) { return text(f(str(a[0]), " ")) })
		d.scalar(name, ts(tText, tText), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			return text(f(str(a[0]), str(a[1])))
		})
		d.scalar(name, ts(tBytes, tBytes), tBytes, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			return tree.NewDBytes(tree.DBytes(trimBytes(string(*a[0].(*tree.DBytes)), string(*a[1].(*tree.DBytes)), name))), nil
		})
	}
	trim("btrim", strings.Trim)
	trim("ltrim", strings.TrimLeft)
	trim("rtrim", strings.TrimRight)
	d.same([]string{"strpos", "position"}, ts(tText, tText), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		s := str(a[0])
		i := strings.Index(s, str(a[1]))
		if i < 0 {
			return dint(0)
		}
		return dint(int64(utf8.RuneCountInString(s[:i])) + 1)
	})
	d.same([]string{"strpos", "position"}, ts(tBytes, tBytes), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return dint(int64(strings.Index(string(*a[0].(*tree.DBytes)), string(*a[1].(*tree.DBytes)))) + 1)
	})
	d.scalar("replace", ts(tText, tText, tText), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		s, from, to := str(a[0]), str(a[1]), str(a[2])
		if from == "" {
			return a[0], nil
		}
		if len(to) > len(from) && len(s)+strings.Count(s, from)*(len(to)-len(from)) > maxResultBytes {
			return nil, errTooLong()
		}
		return text(strings.ReplaceAll(s, from, to))
	})
	d.scalar("translate", ts(tText, tText, tText), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		from, to := []rune(str(a[1])), []rune(str(a[2]))
		m := make(map[rune]rune, len(from))
		for i, r := range from {
			if _, dup := m[r]; dup {
				continue
			}
			m[r] = -1
			if i < len(to) {
				m[r] = to[i]
			}
		}
		return text(strings.Map(func(r rune) rune {
			if t, ok := m[r]; ok {
				return t
			}
			return r
		}, str(a[0])))
	})
	overlay := func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		s, by := str(a[0]), str(a[1])
		from, n := num(a[2]), int64(utf8.RuneCountInString(by))
		if len(a) > 3 {
			n = num(a[3])
		}
		if from <= 0 {
			return nil, pgerr.New("22011", "negative substring length not allowed")
		}
		return text(substr(s, 1, from-1) + by + substr(s, from+n, -1))
	}
	d.scalar("overlay", ts(tText, tText, tInt), tText, overlay)
	d.scalar("overlay", ts(tText, tText, tInt, tInt), tText, overlay)
	d.scalar("split_part", ts(tText, tText, tInt), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		s, sep, n := str(a[0]), str(a[1]), num(a[2])
		if n == 0 {
			return nil, pgerr.New("22023", "field position must not be zero")
		}
		parts := []string{s}
		if sep != "" && s != "" {
			parts = strings.Split(s, sep)
		}
		if n < 0 {
			n = int64(len(parts)) + n + 1
		}
		if n < 1 || n > int64(len(parts)) {
			return text("")
		}
		return text(parts[n-1])
	})
	d.scalar("starts_with", ts(tText, tText), tBool, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return dbool(strings.HasPrefix(str(a[0]), str(a[1])))
	})
	d.add("concat", variadic(nil, tAny), tree.FixedReturnType(tText), func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		var b strings.Builder
		for _, x := range a {
			if x != tree.DNull {
				b.WriteString(anyText(ctx, x))
			}
		}
		return text(b.String())
	}, nullable)
	d.add("concat_ws", variadic(ts(tText), tAny), tree.FixedReturnType(tText), func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		if a[0] == tree.DNull {
			return tree.DNull, nil
		}
		var parts []string
		for _, x := range a[1:] {
			if x != tree.DNull {
				parts = append(parts, anyText(ctx, x))
			}
		}
		return text(strings.Join(parts, str(a[0])))
	}, nullable)
	d.add("format", variadic(ts(tText), tAny), tree.FixedReturnType(tText), func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		if a[0] == tree.DNull {
			return tree.DNull, nil
		}
		return formatText(ctx, str(a[0]), a[1:])
	}, nullable)
	d.scalar("to_hex", ts(tInt), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		n := num(a[0])
		if n < 0 && n >= -1<<31 {
			return text(strconv.FormatUint(uint64(uint32(int32(n))), 16))
		}
		return text(strconv.FormatUint(uint64(n), 16))
	})
	likeEsc := func(name string, fold, not, similar bool) {
		d.scalar(name, ts(tText, tText, tText), tBool, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			s, p, esc := str(a[0]), str(a[1]), str(a[2])
			var ok bool
			var err error
			if similar {
				ok, err = matchSimilar(s, p, esc)
			} else {
				if utf8.RuneCountInString(esc) > 1 {
					return nil, pgerr.New("22025", "invalid escape string").WithHint("Escape string must be empty or one character.")
				}
				if fold {
					s, p, esc = strings.ToLower(s), strings.ToLower(p), strings.ToLower(esc)
				}
				var r rune
				if esc != "" {
					r, _ = utf8.DecodeRuneInString(esc)
				}
				ok, err = matchLike(s, p, r)
			}
			return tree.MakeDBool(tree.DBool(ok != not)), err
		})
	}
	likeEsc("like_escape", false, false, false)
	likeEsc("not_like_escape", false, true, false)
	likeEsc("ilike_escape", true, false, false)
	likeEsc("not_ilike_escape", true, true, false)
	likeEsc("similar_to_escape", false, false, true)
	likeEsc("not_similar_to_escape", false, true, true)

	defineHashes(d)
}

func defineHashes(d definitions) {
	hexHash := func(name string, ret *types.T, newHash func() hash.Hash) {
		sum := func(s string) (tree.Datum, error) {
			h := newHash()
			h.Write([]byte(s))
			if ret == tBytes {
				return tree.NewDBytes(tree.DBytes(h.Sum(nil))), nil
			}
			return text(hex.EncodeToString(h.Sum(nil)))
		}
		d.scalar(name, ts(tText), ret, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) { return sum(str(a[0])) })
		d.scalar(name, ts(tBytes), ret, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			return sum(string(*a[0].(*tree.DBytes)))
		})
	}
	hexHash("md5", tText, md5.New)
	hexHash("sha1", tText, sha1.New)
	hexHash("sha224", tBytes, sha256.New224)
	hexHash("sha256", tBytes, sha256.New)
	hexHash("sha384", tBytes, sha512.New384)
	hexHash("sha512", tBytes, sha512.New)
	intHash := func(name string, f func([]byte) int64) {
		d.scalar(name, ts(tText), tInt, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) { return dint(f([]byte(str(a[0])))) })
		d.scalar(name, ts(tBytes), tInt, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			return dint(f([]byte(*a[0].(*tree.DBytes))))
		})
	}
	intHash("fnv32", func(b []byte) int64 { h := fnv.New32(); h.Write(b); return int64(h.Sum32()) })
	intHash("fnv32a", func(b []byte) int64 { h := fnv.New32a(); h.Write(b); return int64(h.Sum32()) })
	intHash("fnv64", func(b []byte) int64 { h := fnv.New64(); h.Write(b); return int64(h.Sum64()) })
	intHash("fnv64a", func(b []byte) int64 { h := fnv.New64a(); h.Write(b); return int64(h.Sum64()) })
	intHash("crc32ieee", func(b []byte) int64 { return int64(crc32.ChecksumIEEE(b)) })
	intHash("crc32c", func(b []byte) int64 { return int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))) })

	digest := func(alg string) (func() hash.Hash, error) {
		switch strings.ToLower(alg) {
		case "md5":
			return md5.New, nil
		case "sha1":
			return sha1.New, nil
		case "sha224":
			return sha256.New224, nil
		case "sha256":
			return sha256.New, nil
		case "sha384":
			return sha512.New384, nil
		case "sha512":
			return sha512.New, nil
		}
		return nil, pgerr.Newf("22023", "Cannot use %q: No such hash algorithm", alg)
	}
	raw := func(d tree.Datum) []byte {
		if b, ok := d.(*tree.DBytes); ok {
			return []byte(*b)
		}
		return []byte(str(d))
	}
	for _, t := range []*types.T{tText, tBytes} {
		d.scalar("digest", ts(t, tText), tBytes, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			h, err := digest(str(a[1]))
			if err != nil {
				return nil, err
			}
			hh := h()
			hh.Write(raw(a[0]))
			return tree.NewDBytes(tree.DBytes(hh.Sum(nil))), nil
		})
		d.scalar("hmac", ts(t, t, tText), tBytes, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			h, err := digest(str(a[2]))
			if err != nil {
				return nil, err
			}
			m := hmac.New(h, raw(a[1]))
			m.Write(raw(a[0]))
			return tree.NewDBytes(tree.DBytes(m.Sum(nil))), nil
		})
	}
	d.scalar("encode", ts(tBytes, tText), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		b := string(*a[0].(*tree.DBytes))
		switch f := str(a[1]); strings.ToLower(f) {
		case "hex":
			return text(hex.EncodeToString([]byte(b)))
		case "base64":
			return text(wrapBase64(base64.StdEncoding.EncodeToString([]byte(b))))
		case "escape":
			return text(escapeBytea(b))
		default:
			return nil, pgerr.Newf("22023", "unrecognized encoding: %q", f)
		}
	})
	d.scalar("decode", ts(tText, tText), tBytes, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		s := str(a[0])
		switch f := str(a[1]); strings.ToLower(f) {
		case "hex":
			clean := strings.Map(func(r rune) rune {
				if strings.ContainsRune(" \n\t\r", r) {
					return -1
				}
				return r
			}, s)
			for _, r := range clean {
				if !strings.ContainsRune("0123456789abcdefABCDEF", r) {
					return nil, pgerr.Newf("22023", "invalid hexadecimal digit: %q", string(r))
				}
			}
			out, err := hex.DecodeString(clean)
			if err != nil {
				return nil, pgerr.New("22023", "invalid hexadecimal data: odd number of digits")
			}
			return tree.NewDBytes(tree.DBytes(out)), nil
		case "base64":
			clean := strings.Map(func(r rune) rune {
				if strings.ContainsRune(" \n\t\r", r) {
					return -1
				}
				return r
			}, s)
			for _, r := range clean {
				if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '+' || r == '/' || r == '=') {
					return nil, pgerr.Newf("22023", "invalid symbol %q found while decoding base64 sequence", string(r))
				}
			}
			out, err := base64.StdEncoding.DecodeString(clean)
			if err != nil {
				return nil, pgerr.New("22023", "invalid base64 end sequence").
					WithHint("Input data is missing padding, is truncated, or is otherwise corrupted.")
			}
			return tree.NewDBytes(tree.DBytes(out)), nil
		case "escape":
			out, err := unescapeBytea(s)
			if err != nil {
				return nil, err
			}
			return tree.NewDBytes(tree.DBytes(out)), nil
		default:
			return nil, pgerr.Newf("22023", "unrecognized encoding: %q", f)
		}
	})
	d.scalar("convert_from", ts(tBytes, tText), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		b := string(*a[0].(*tree.DBytes))
		switch enc := str(a[1]); normalEncoding(enc) {
		case "utf8", "unicode":
			if !utf8.ValidString(b) {
				return nil, pgerr.New("22021", `invalid byte sequence for encoding "UTF8"`)
			}
			return text(b)
		case "latin1", "iso88591":
			r := make([]rune, len(b))
			for i := range len(b) {
				r[i] = rune(b[i])
			}
			return text(string(r))
		case "sqlascii":
			return text(b)
		default:
			return nil, pgerr.Newf("22023", "invalid source encoding name %q", enc)
		}
	})
	d.scalar("convert_to", ts(tText, tText), tBytes, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		s := str(a[0])
		switch enc := str(a[1]); normalEncoding(enc) {
		case "utf8", "unicode", "sqlascii":
			return tree.NewDBytes(tree.DBytes(s)), nil
		case "latin1", "iso88591":
			var b []byte
			for _, r := range s {
				if r > 0xff {
					return nil, pgerr.Newf("22P05", `character with byte sequence 0x%x in encoding "UTF8" has no equivalent in encoding "LATIN1"`, string(r))
				}
				b = append(b, byte(r))
			}
			return tree.NewDBytes(tree.DBytes(b)), nil
		default:
			return nil, pgerr.Newf("22023", "invalid destination encoding name %q", enc)
		}
	})
	d.scalar("get_byte", ts(tBytes, tInt), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		b, i := string(*a[0].(*tree.DBytes)), num(a[1])
		if i < 0 || i >= int64(len(b)) {
			return nil, pgerr.Newf("2202E", "index %d out of valid range, 0..%d", i, len(b)-1)
		}
		return dint(int64(b[i]))
	})
	d.scalar("set_byte", ts(tBytes, tInt, tInt), tBytes, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		b, i := []byte(*a[0].(*tree.DBytes)), num(a[1])
		if i < 0 || i >= int64(len(b)) {
			return nil, pgerr.Newf("2202E", "index %d out of valid range, 0..%d", i, len(b)-1)
		}
		b[i] = byte(num(a[2]))
		return tree.NewDBytes(tree.DBytes(b)), nil
	})
}

func normalEncoding(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == ' ' {
			return -1
		}
		return unicode.ToLower(r)
	}, s)
}

// anyText is the text form of any value, as concat and format print it.
func anyText(ctx *tree.EvalContext, d tree.Datum) string {
	if s, ok := textOf(unwrap(d)); ok {
		return s
	}
	return FormatText(ctx, d, d.ResolvedType())
}

func initcap(s string) string {
	var b strings.Builder
	inWord := false
	for _, r := range s {
		if inWord {
			b.WriteRune(unicode.ToLower(r))
		} else {
			b.WriteRune(unicode.ToUpper(r))
		}
		inWord = unicode.IsLetter(r) || unicode.IsDigit(r)
	}
	return b.String()
}

func reverse(s string) string {
	r := []rune(s)
	for i, j := 0, len(r)-1; i < j; i, j = i+1, j-1 {
		r[i], r[j] = r[j], r[i]
	}
	return string(r)
}

// substrBounds turns SQL's start and length (-1: to the end) into a half-open
// range of n positions.
func substrBounds(start, length, n int64) (lo, hi int64) {
	lo = start - 1
	hi = n
	if length >= 0 {
		hi = lo + length
		if hi < lo { // overflow
			hi = n
		}
	}
	lo, hi = max(lo, 0), min(max(hi, 0), n)
	if lo > hi {
		lo = hi
	}
	return lo, hi
}

func substr(s string, start, length int64) string {
	lo, hi := substrBounds(start, length, int64(len(s)))
	ascii := true
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			ascii = false
			break
		}
	}
	if ascii {
		return s[lo:hi]
	}
	r := []rune(s)
	lo, hi = substrBounds(start, length, int64(len(r)))
	return string(r[lo:hi])
}

func padText(s string, n int, fill string, left bool) string {
	r := []rune(s)
	if len(r) >= n {
		return string(r[:n])
	}
	f := []rune(fill)
	if len(f) == 0 {
		return s
	}
	pad := make([]rune, n-len(r))
	for i := range pad {
		pad[i] = f[i%len(f)]
	}
	if left {
		return string(pad) + s
	}
	return s + string(pad)
}

func trimBytes(s, cut, name string) string {
	if name != "rtrim" {
		for s != "" && strings.IndexByte(cut, s[0]) >= 0 {
			s = s[1:]
		}
	}
	if name != "ltrim" {
		for s != "" && strings.IndexByte(cut, s[len(s)-1]) >= 0 {
			s = s[:len(s)-1]
		}
	}
	return s
}

func quoteLiteral(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return "E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}

// formatText is format(): %s, %I, %L and %% with positions, width and the flag -.
func formatText(ctx *tree.EvalContext, f string, args tree.Datums) (tree.Datum, error) {
	var b strings.Builder
	next := 0
	for i := 0; i < len(f); i++ {
		if f[i] != '%' {
			b.WriteByte(f[i])
			continue
		}
		i++
		if i >= len(f) {
			return nil, pgerr.New("22023", "unterminated format() type specifier").WithHint(`For a single "%%" use "%%%%".`)
		}
		if f[i] == '%' {
			b.WriteByte('%')
			continue
		}
		number := func() (int, bool) {
			start := i
			for i < len(f) && f[i] >= '0' && f[i] <= '9' {
				i++
			}
			n, err := strconv.Atoi(f[start:i])
			return n, err == nil
		}
		arg := func(pos int) (tree.Datum, error) {
			if pos == 0 {
				next++
				pos = next
			} else {
				next = pos
			}
			if pos < 1 || pos > len(args) {
				return nil, pgerr.New("22023", "too few arguments for format()")
			}
			return args[pos-1], nil
		}
		pos, width, left := 0, 0, false
		save := i
		if n, ok := number(); ok && i < len(f) && f[i] == '$' {
			if n == 0 {
				return nil, pgerr.New("22023", "format specifies argument 0, but arguments are numbered from 1")
			}
			pos = n
			i++
		} else {
			i = save
		}
		for i < len(f) && f[i] == '-' {
			left = true
			i++
		}
		if i < len(f) && f[i] == '*' {
			i++
			wpos := 0
			save := i
			if n, ok := number(); ok && i < len(f) && f[i] == '$' {
				wpos = n
				i++
			} else {
				i = save
			}
			d, err := arg(wpos)
			if err != nil {
				return nil, err
			}
			if d != tree.DNull {
				w, err := CastDatum(ctx, d, types.Int4, ExplicitCast)
				if err != nil {
					return nil, err
				}
				width = int(num(w))
				if width < 0 {
					left, width = true, -width
				}
			}
		} else if n, ok := number(); ok {
			width = n
		}
		if i >= len(f) {
			return nil, pgerr.New("22023", "unterminated format() type specifier").WithHint(`For a single "%%" use "%%%%".`)
		}
		verb := f[i]
		if verb != 's' && verb != 'I' && verb != 'L' {
			return nil, pgerr.Newf("22023", "unrecognized format() type specifier %q", string(verb)).WithHint(`For a single "%%" use "%%%%".`)
		}
		d, err := arg(pos)
		if err != nil {
			return nil, err
		}
		var s string
		switch {
		case d == tree.DNull && verb == 'I':
			return nil, pgerr.New("22004", "null values cannot be formatted as an SQL identifier")
		case d == tree.DNull && verb == 'L':
			s = "NULL"
		case d == tree.DNull:
		case verb == 'I':
			s = QuoteIdent(anyText(ctx, d))
		case verb == 'L':
			s = quoteLiteral(anyText(ctx, d))
		default:
			s = anyText(ctx, d)
		}
		if width > maxResultBytes {
			return nil, errTooLong()
		}
		if n := utf8.RuneCountInString(s); n < width {
			if left {
				s += strings.Repeat(" ", width-n)
			} else {
				s = strings.Repeat(" ", width-n) + s
			}
		}
		b.WriteString(s)
	}
	return text(b.String())
}

// wrapBase64 breaks lines after 76 characters as PostgreSQL does.
func wrapBase64(s string) string {
	if len(s) <= 76 {
		return s
	}
	var b strings.Builder
	for len(s) > 76 {
		b.WriteString(s[:76])
		b.WriteByte('\n')
		s = s[76:]
	}
	b.WriteString(s)
	return b.String()
}

func escapeBytea(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\\':
			b.WriteString(`\\`)
		case c == 0 || c >= 0x80:
			b.WriteByte('\\')
			b.WriteString(strconv.FormatInt(int64(c)+01000, 8)[1:])
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func unescapeBytea(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		switch {
		case i+1 < len(s) && s[i+1] == '\\':
			b.WriteByte('\\')
			i++
		case i+3 < len(s) && s[i+1] >= '0' && s[i+1] <= '3':
			n, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
			if err != nil {
				return "", pgerr.New(pgerr.InvalidTextRepresentation, "invalid input syntax for type bytea")
			}
			b.WriteByte(byte(n))
			i += 3
		default:
			return "", pgerr.New(pgerr.InvalidTextRepresentation, "invalid input syntax for type bytea")
		}
	}
	return b.String(), nil
}
