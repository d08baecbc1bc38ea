package builtins

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// A picture is a format string of to_char, to_date and to_timestamp, cut into
// nodes: a keyword with its modifiers, or text to be copied.
type pictureNode struct {
	key  string // the keyword in the case it was written in; "" for text
	text string
	fm   bool // FM: no padding
	th   string
}

// timeKeys are the keywords of date pictures, longer ones before their prefixes.
var timeKeys = []string{
	"A.D.", "A.M.", "AD", "AM", "B.C.", "BC", "CC", "DAY", "DDD", "DD", "DY", "Day", "Dy", "D", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6",
	"HH24", "HH12", "HH", "IDDD", "ID", "IW", "IYYY", "IYY", "IY", "I", "J", "MI", "MM", "MONTH", "MON", "MS", "Month", "Mon",
	"OF", "P.M.", "PM", "Q", "RM", "SSSSS", "SSSS", "SS", "TZH", "TZM", "TZ", "US", "WW", "W", "Y,YYY", "YYYY", "YYY", "YY", "Y",
	"a.d.", "a.m.", "ad", "am", "b.c.", "bc", "cc", "day", "ddd", "dd", "dy", "d", "ff1", "ff2", "ff3", "ff4", "ff5", "ff6",
	"hh24", "hh12", "hh", "iddd", "id", "iw", "iyyy", "iyy", "iy", "i", "j", "mi", "mm", "month", "mon", "ms", "of", "p.m.", "pm", "q", "rm",
	"sssss", "ssss", "ss", "tzh", "tzm", "tz", "us", "ww", "w", "y,yyy", "yyyy", "yyy", "yy", "y",
}

func parsePicture(f string, keys []string) []pictureNode {
	var out []pictureNode
	addText := func(s string) {
		if n := len(out); n > 0 && out[n-1].key == "" {
			out[n-1].text += s
			return
		}
		out = append(out, pictureNode{text: s})
	}
	for i := 0; i < len(f); {
		fm := false
		for {
			if p := f[i:]; strings.HasPrefix(p, "FM") || strings.HasPrefix(p, "fm") {
				fm = true
				i += 2
				continue
			} else if strings.HasPrefix(p, "TM") || strings.HasPrefix(p, "tm") || strings.HasPrefix(p, "FX") || strings.HasPrefix(p, "fx") {
				i += 2
				continue
			}
			break
		}
		if i >= len(f) {
			break
		}
		key := ""
		for _, k := range keys {
			if strings.HasPrefix(f[i:], k) && len(k) > len(key) {
				key = k
			}
		}
		if key != "" {
			i += len(key)
			n := pictureNode{key: key, fm: fm}
			if strings.HasPrefix(f[i:], "TH") || strings.HasPrefix(f[i:], "th") {
				n.th = f[i : i+2]
				i += 2
			}
			if strings.HasPrefix(f[i:], "SP") || strings.HasPrefix(f[i:], "sp") {
				i += 2
			}
			out = append(out, n)
			continue
		}
		switch c := f[i]; {
		case c == '"':
			i++
			var b strings.Builder
			for i < len(f) && f[i] != '"' {
				if f[i] == '\\' && i+1 < len(f) {
					i++
				}
				b.WriteByte(f[i])
				i++
			}
			i++
			addText(b.String())
		case c == '\\' && i+1 < len(f) && f[i+1] == '"':
			addText(`"`)
			i += 2
		default:
			addText(f[i : i+1])
			i++
		}
	}
	return out
}

func ordinal(n int, th string) string {
	if th == "" {
		return ""
	}
	s := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			s = "st"
		case 2:
			s = "nd"
		case 3:
			s = "rd"
		}
	}
	if th == "TH" {
		return strings.ToUpper(s)
	}
	return s
}

// clockValue is what a picture prints: broken-down time, or an interval.
type clockValue struct {
	y, mon, day      int
	h, mi, s, us     int
	interval         bool
	t                time.Time
	zoneName, offset string
}

var romanMonths = []string{"I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"}

func timeToChar(f string, v clockValue) (string, error) {
	var b strings.Builder
	for _, n := range parsePicture(f, timeKeys) {
		if n.key == "" {
			b.WriteString(n.text)
			continue
		}
		numFmt := func(x, width int) {
			neg := x < 0
			if neg {
				x = -x
			}
			s := strconv.Itoa(x)
			if !n.fm {
				for len(s) < width {
					s = "0" + s
				}
			}
			if neg {
				s = "-" + s
			}
			b.WriteString(s + ordinal(x, n.th))
		}
		word := func(s string, width int) {
			if v.interval {
				return
			}
			switch {
			case n.key == strings.ToUpper(n.key):
				s = strings.ToUpper(s)
			case n.key == strings.ToLower(n.key):
				s = strings.ToLower(s)
			}
			b.WriteString(s)
			if !n.fm {
				b.WriteString(strings.Repeat(" ", max(0, width-len(s))))
			}
		}
		year := v.y
		if !v.interval && year <= 0 {
			year = -(year - 1)
		}
		isoYear, isoWeek := v.t.ISOWeek()
		key := strings.ToUpper(n.key)
		if v.interval {
			switch key {
			case "CC", "Q", "WW", "IW", "IYYY", "IYY", "IY", "I", "J", "DDD", "IDDD", "D", "ID", "W":
			case "TZ", "OF", "TZH", "TZM", "AD", "BC", "A.D.", "B.C.", "DAY", "DY", "MONTH", "MON", "RM":
				if key == "RM" {
					break
				}
				return "", pgerr.New("22007", "invalid format specification for an interval value").
					WithHint("Intervals are not tied to specific calendar dates.")
			}
		}
		switch key {
		case "HH24":
			numFmt(v.h, 2)
		case "HH", "HH12":
			h := v.h % 12
			if h == 0 {
				h = 12
			}
			numFmt(h, 2)
		case "MI":
			numFmt(v.mi, 2)
		case "SS":
			numFmt(v.s, 2)
		case "MS":
			numFmt(v.us/1000, 3)
		case "US":
			numFmt(v.us, 6)
		case "FF1", "FF2", "FF3", "FF4", "FF5", "FF6":
			digits := int(key[2] - '0')
			numFmt(v.us/int(math.Pow10(6-digits)), digits)
		case "SSSS", "SSSSS":
			numFmt(v.h*3600+v.mi*60+v.s, 0)
		case "AM", "PM":
			word2(&b, n.key, v.h >= 12, "am", "pm")
		case "A.M.", "P.M.":
			word2(&b, n.key, v.h >= 12, "a.m.", "p.m.")
		case "AD", "BC":
			word2(&b, n.key, v.y <= 0, "ad", "bc")
		case "A.D.", "B.C.":
			word2(&b, n.key, v.y <= 0, "a.d.", "b.c.")
		case "Y,YYY":
			fmt.Fprintf(&b, "%d,%03d%s", year/1000, year%1000, ordinal(year, n.th))
		case "YYYY":
			numFmt(year, 4)
		case "YYY":
			numFmt(year%1000, 3)
		case "YY":
			numFmt(year%100, 2)
		case "Y":
			numFmt(year%10, 1)
		case "IYYY":
			numFmt(isoYear, 4)
		case "IYY":
			numFmt(isoYear%1000, 3)
		case "IY":
			numFmt(isoYear%100, 2)
		case "I":
			numFmt(isoYear%10, 1)
		case "CC":
			numFmt(centuryOf(v.y, 100), 2)
		case "MONTH":
			word(v.t.Month().String(), 9)
		case "MON":
			word(v.t.Month().String()[:3], 0)
		case "MM":
			numFmt(v.mon, 2)
		case "DAY":
			word(v.t.Weekday().String(), 9)
		case "DY":
			word(v.t.Weekday().String()[:3], 0)
		case "DDD":
			if v.interval {
				numFmt(v.y*365+v.mon*30+v.day, 3)
			} else {
				numFmt(v.t.YearDay(), 3)
			}
		case "IDDD":
			_, w := v.t.ISOWeek()
			numFmt((w-1)*7+int(v.t.Weekday()+6)%7+1, 3)
		case "DD":
			numFmt(v.day, 2)
		case "D":
			numFmt(int(v.t.Weekday())+1, 1)
		case "ID":
			numFmt(int(v.t.Weekday()+6)%7+1, 1)
		case "W":
			numFmt((v.day-1)/7+1, 1)
		case "WW":
			numFmt((v.t.YearDay()-1)/7+1, 2)
		case "IW":
			numFmt(isoWeek, 2)
		case "Q":
			if v.mon > 0 {
				numFmt((v.mon-1)/3+1, 1)
			}
		case "J":
			numFmt(int(julianDay(v.t)), 0)
		case "RM":
			if v.mon < 1 || v.mon > 12 {
				break
			}
			s := romanMonths[v.mon-1]
			if n.key == "rm" {
				s = strings.ToLower(s)
			}
			b.WriteString(s)
			if !n.fm {
				b.WriteString(strings.Repeat(" ", 4-len(s)))
			}
		case "TZ":
			s := v.zoneName
			if n.key == "tz" {
				s = strings.ToLower(s)
			}
			b.WriteString(s)
		case "OF":
			b.WriteString(v.offset)
		case "TZH":
			if len(v.offset) >= 3 {
				b.WriteString(v.offset[:3])
			}
		case "TZM":
			if len(v.offset) >= 6 {
				b.WriteString(v.offset[4:6])
			} else {
				b.WriteString("00")
			}
		}
	}
	return b.String(), nil
}

// word2 writes one of two words in the case of the keyword.
func word2(b *strings.Builder, key string, second bool, w1, w2 string) {
	if second {
		w1 = w2
	}
	if unicode.IsUpper(rune(key[0])) {
		w1 = strings.ToUpper(w1)
	}
	b.WriteString(w1)
}

func clockOf(t time.Time, zoned bool) clockValue {
	v := clockValue{
		y: t.Year(), mon: int(t.Month()), day: t.Day(), h: t.Hour(), mi: t.Minute(), s: t.Second(), us: t.Nanosecond() / 1000, t: t,
	}
	if zoned {
		name, off := t.Zone()
		if strings.HasPrefix(name, "+") || strings.HasPrefix(name, "-") {
			name = ""
		}
		v.zoneName = name
		sign := '+'
		if off < 0 {
			sign, off = '-', -off
		}
		v.offset = fmt.Sprintf("%c%02d", sign, off/3600)
		if off%3600 != 0 {
			v.offset += fmt.Sprintf(":%02d", off/60%60)
		}
	}
	return v
}

func defineTimeFormat(d definitions) {
	d.scalar("to_char", ts(tTS, tText), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		t := a[0].(*tree.DTimestamp).Time.UTC()
		if isInfinite(t) || str(a[1]) == "" {
			return tree.DNull, nil
		}
		s, err := timeToChar(str(a[1]), clockOf(t, false))
		return tree.NewDString(s), err
	})
	d.scalar("to_char", ts(tTSTZ, tText), tText, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		t := a[0].(*tree.DTimestampTZ).Time
		if isInfinite(t) || str(a[1]) == "" {
			return tree.DNull, nil
		}
		s, err := timeToChar(str(a[1]), clockOf(t.In(ctx.GetLocation()), true))
		return tree.NewDString(s), err
	})
	d.scalar("to_char", ts(tIval, tText), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		iv := a[0].(*tree.DInterval).Duration
		us := iv.Nanos() / 1000
		v := clockValue{
			interval: true, y: int(iv.Months / 12), mon: int(iv.Months % 12), day: int(iv.Days), h: int(us / 3600e6),
			mi: int(us / 60e6 % 60), s: int(us / 1e6 % 60), us: int(us % 1e6), t: time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC),
		}
		s, err := timeToChar(str(a[1]), v)
		return tree.NewDString(s), err
	})
	d.scalar("to_timestamp", ts(tText, tText), tTSTZ, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		t, off, err := parseByPicture(str(a[0]), str(a[1]))
		if err != nil {
			return nil, err
		}
		if off != nil {
			return &tree.DTimestampTZ{Time: t.Add(-time.Duration(*off) * time.Second)}, nil
		}
		return &tree.DTimestampTZ{Time: inZone(t, ctx.GetLocation())}, nil
	})
	d.scalar("to_date", ts(tText, tText), tDate, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		t, _, err := parseByPicture(str(a[0]), str(a[1]))
		if err != nil {
			return nil, err
		}
		return tree.NewDDateFromTime(t)
	})
}

// parseByPicture reads s as the picture f says: to_timestamp and to_date.
func parseByPicture(s, f string) (time.Time, *int, error) {
	p := pictureParser{s: s, whole: s}
	var y, mon, day, doy, julian, isoY, isoW, isoD, week, weekOfMonth = 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
	var h, mi, sec, us, ssss, cc, q = 0, 0, 0, 0, -1, 0, 0
	haveY, yDigits, bc, pm, am, h12 := false, 0, false, false, false, false
	var off *int
	nodes := parsePicture(f, timeKeys)
	for i, n := range nodes {
		if n.key == "" {
			p.skipText(n.text)
			continue
		}
		if p.s == "" {
			break
		}
		// A number that another one follows directly has a fixed width.
		tight := i+1 < len(nodes) && nodes[i+1].key != "" && isNumericKey(nodes[i+1].key)
		var err error
		num := func(dst *int, width int) {
			if err == nil {
				var used int
				*dst, used, err = p.number(n.key, width, tight)
				yDigits = used
			}
			if n.th != "" && len(p.s) >= 2 {
				p.s = p.s[2:]
			}
		}
		key := strings.ToUpper(n.key)
		if !isNumericKey(n.key) || key == "SSSS" {
			p.space()
		}
		switch key {
		case "HH24":
			num(&h, 2)
		case "HH", "HH12":
			h12 = true
			num(&h, 2)
			if err == nil && (h < 1 || h > 12) {
				err = pgerr.Newf("22007", "hour \"%d\" is invalid for the 12-hour clock", h).
					WithHint("Use the 24-hour clock, or give an hour between 1 and 12.")
			}
		case "MI":
			num(&mi, 2)
		case "SS":
			num(&sec, 2)
		case "MS", "US", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6":
			width := map[string]int{"MS": 3, "US": 6}[key]
			if width == 0 {
				width = int(key[2] - '0')
			}
			var v int
			num(&v, width)
			if err == nil {
				us = v * int(math.Pow10(max(0, 6-yDigits)))
			}
		case "SSSS", "SSSSS":
			num(&ssss, 5)
		case "AM", "PM", "A.M.", "P.M.":
			w, ok := p.oneOf("a.m.", "p.m.", "am", "pm")
			if !ok {
				err = p.bad(n.key)
			}
			pm = strings.HasPrefix(w, "p")
			am = !pm
		case "AD", "BC", "A.D.", "B.C.":
			w, ok := p.oneOf("a.d.", "b.c.", "ad", "bc")
			if !ok {
				err = p.bad(n.key)
			}
			bc = strings.HasPrefix(w, "b")
		case "Y,YYY":
			var a, b int
			num(&a, 3)
			p.skipText(",")
			if err == nil {
				b, _, err = p.number(n.key, 3, false)
			}
			y, haveY = a*1000+b, true
		case "YYYY":
			num(&y, 4)
			haveY = true
			if err == nil && yDigits < 4 && yDigits > 0 && !tight {
				y = windowYear(y, yDigits)
			}
		case "YYY", "YY", "Y":
			num(&y, len(key))
			haveY = true
			if err == nil && yDigits < 4 {
				y = windowYear(y, yDigits)
			}
		case "IYYY", "IYY", "IY", "I":
			num(&isoY, len(key))
			if err == nil && yDigits < 4 {
				isoY = windowYear(isoY, yDigits)
			}
		case "CC":
			num(&cc, 2)
		case "MONTH", "MON":
			names := make([]string, 0, 24)
			for m := time.January; m <= time.December; m++ {
				names = append(names, m.String())
			}
			for m := time.January; m <= time.December; m++ {
				names = append(names, m.String()[:3])
			}
			w, ok := p.oneOf(names...)
			if !ok {
				err = p.bad(n.key)
				break
			}
			for j, name := range names {
				if name == w {
					mon = j%12 + 1
				}
			}
		case "MM":
			num(&mon, 2)
		case "DAY", "DY":
			names := make([]string, 0, 14)
			for d := time.Sunday; d <= time.Saturday; d++ {
				names = append(names, d.String())
			}
			for d := time.Sunday; d <= time.Saturday; d++ {
				names = append(names, d.String()[:3])
			}
			if _, ok := p.oneOf(names...); !ok {
				err = p.bad(n.key)
			}
		case "DDD":
			num(&doy, 3)
		case "IDDD":
			num(&doy, 3)
		case "DD":
			num(&day, 2)
		case "D":
			var v int
			num(&v, 1)
			isoD = (v+5)%7 + 1
		case "ID":
			num(&isoD, 1)
		case "WW":
			num(&week, 2)
		case "W":
			num(&weekOfMonth, 1)
		case "IW":
			num(&isoW, 2)
		case "Q":
			num(&q, 1)
		case "J":
			num(&julian, 10)
		case "RM":
			names := []string{"VIII", "VII", "VI", "V", "IV", "IX", "III", "II", "I", "XII", "XI", "X"}
			w, ok := p.oneOf(names...)
			if !ok {
				err = p.bad(n.key)
				break
			}
			for j, r := range romanMonths {
				if r == w {
					mon = j + 1
				}
			}
		case "TZH":
			sign := 1
			if strings.HasPrefix(p.s, "-") {
				sign = -1
			}
			p.s = strings.TrimLeft(p.s, "+-")
			var v int
			num(&v, 2)
			v *= sign * 3600
			off = &v
		case "TZM":
			var v int
			num(&v, 2)
			if off == nil {
				off = new(int)
			}
			if *off < 0 {
				*off -= v * 60
			} else {
				*off += v * 60
			}
		case "TZ", "OF":
			err = pgerr.Newf(pgerr.FeatureNotSupported, "formatting field %q is only supported in to_char", key)
		}
		if err != nil {
			return time.Time{}, nil, err
		}
	}
	if cc != 0 && !haveY {
		y, haveY = (cc-1)*100+1, true
	} else if cc != 0 && yDigits <= 2 {
		y = y%100 + (cc-1)*100
	}
	if h12 || pm || am {
		if pm && h < 12 {
			h += 12
		} else if am && h == 12 {
			h = 0
		} else if h12 && !pm && !am && h == 12 {
			h = 0
		}
	}
	if ssss >= 0 {
		h, mi, sec = ssss/3600, ssss/60%60, ssss%60
	}
	bad := func() error {
		return pgerr.Newf("22008", "date/time field value out of range: %q", s)
	}
	if h > 23 && !(h == 24 && mi == 0 && sec == 0) || mi > 59 || sec > 59 {
		return time.Time{}, nil, bad()
	}
	if !haveY {
		y = 0 // Without a year it is 1 BC, as in PostgreSQL: to_date('12','MM') is 0001-12-01 BC.
	} else if bc {
		y = 1 - y
	}
	clock := time.Duration(h)*time.Hour + time.Duration(mi)*time.Minute + time.Duration(sec)*time.Second + time.Duration(us)*time.Microsecond
	var t time.Time
	switch {
	case julian > 0:
		t = time.Unix(int64(julian-2440588)*86400, 0).UTC()
	case isoY != 0 || isoW != 0:
		w, dd := max(isoW, 1), max(isoD, 1)
		jan4 := time.Date(isoY, 1, 4, 0, 0, 0, 0, time.UTC)
		monday := jan4.AddDate(0, 0, -int(jan4.Weekday()+6)%7)
		t = monday.AddDate(0, 0, (w-1)*7+dd-1)
		if doy > 0 {
			t = monday.AddDate(0, 0, doy-1)
		}
	case doy > 0 && mon == 0:
		t = time.Date(y, 1, doy, 0, 0, 0, 0, time.UTC)
		if doy > 366 || t.Year() != y {
			return t, nil, bad()
		}
	case week > 0 && mon == 0:
		t = time.Date(y, 1, (week-1)*7+1, 0, 0, 0, 0, time.UTC)
	default:
		if weekOfMonth > 0 && day == 0 {
			day = (weekOfMonth-1)*7 + 1
		}
		mon, day = max(mon, 1), max(day, 1)
		t = time.Date(y, time.Month(mon), day, 0, 0, 0, 0, time.UTC)
		if mon > 12 || t.Day() != day {
			return t, nil, bad()
		}
	}
	return t.Add(clock), off, nil
}

// windowYear completes a year of fewer than four digits to the one nearest 2020.
func windowYear(y, digits int) int {
	switch digits {
	case 1, 2:
		if y < 70 {
			return y + 2000
		}
		return y + 1900
	case 3:
		if y < 520 {
			return y + 2000
		}
		return y + 1000
	}
	return y
}

func isNumericKey(k string) bool {
	switch strings.ToUpper(k) {
	case "AM", "PM", "A.M.", "P.M.", "AD", "BC", "A.D.", "B.C.", "MONTH", "MON", "DAY", "DY", "RM", "TZ", "OF":
		return false
	}
	return true
}

type pictureParser struct{ s, whole string }

func (p *pictureParser) space() { p.s = strings.TrimLeft(p.s, " \t\n\r") }

// skipText passes over what stands between fields: a separator matches any
// separators, other characters just take one character.
func (p *pictureParser) skipText(t string) {
	for _, c := range t {
		switch {
		case unicode.IsSpace(c) || unicode.IsPunct(c) || unicode.IsSymbol(c):
			p.space()
			if p.s != "" {
				r := rune(p.s[0])
				if (unicode.IsPunct(r) || unicode.IsSymbol(r)) && !(r == '-' || r == '+') || r == '-' && c == '-' || (r == '-' || r == '+') && c != '-' && !unicode.IsSpace(c) {
					p.s = p.s[1:]
				}
			}
		default:
			if p.s != "" {
				p.s = p.s[1:]
			}
		}
	}
}

func (p *pictureParser) number(key string, width int, fixed bool) (v, digits int, err error) {
	p.space()
	i := 0
	neg := false
	if i < len(p.s) && (p.s[i] == '-' || p.s[i] == '+') {
		neg = p.s[i] == '-'
		i++
	}
	start := i
	for i < len(p.s) && p.s[i] >= '0' && p.s[i] <= '9' && (!fixed || i-start < width) {
		i++
	}
	if !fixed && i-start > width && !strings.EqualFold(key, "YYYY") && !strings.EqualFold(key, "J") {
		i = start + width
	}
	if i == start {
		return 0, 0, p.bad(key)
	}
	v, err = strconv.Atoi(p.s[start:i])
	if err != nil {
		return 0, 0, pgerr.Newf("22008", "value for %q in source string is out of range", key)
	}
	if neg {
		v = -v
	}
	digits = i - start
	p.s = p.s[i:]
	return v, digits, nil
}

// oneOf takes the first of words that comes next, in any case.
func (p *pictureParser) oneOf(words ...string) (string, bool) {
	for _, w := range words {
		if len(p.s) >= len(w) && strings.EqualFold(p.s[:len(w)], w) {
			p.s = p.s[len(w):]
			return w, true
		}
	}
	return "", false
}

func (p *pictureParser) bad(key string) error {
	if isNumericKey(key) {
		got := p.s
		if len(got) > len(key) {
			got = got[:len(key)]
		}
		return pgerr.Newf("22007", "invalid value %q for %q", got, key).WithDetail("Value must be an integer.")
	}
	got := p.s
	if i := strings.IndexFunc(got, func(r rune) bool { return !unicode.IsLetter(r) }); i > 0 {
		got = got[:i]
	}
	return pgerr.Newf("22007", "invalid value %q for %q", got, key).
		WithDetail("The given value did not match any of the allowed values for this field.")
}
