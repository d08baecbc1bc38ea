package pgcodec

// goldenInputs are values in the text form of their types. TestGoldens compares
// what this package makes of them with what PostgreSQL made of them.
var goldenInputs = []struct {
	typ    string
	values []string
}{
	{"bool", []string{"t", "f", "true", "FALSE", "yes", "no", "on", "off", "1", "0", " t ", "y"}},
	{"int2", []string{"0", "-1", "32767", "-32768", "+5", " 7 "}},
	{"int4", []string{"0", "-1", "2147483647", "-2147483648", "0012"}},
	{"int8", []string{"0", "9223372036854775807", "-9223372036854775808"}},
	{"float4", []string{"0", "-0", "1.5", "0.1", "3.4028235e38", "1e-45", "123456", "1234567", "NaN", "Infinity", "-inf", "1e6", "1e-4", "1e-5"}},
	{"float8", []string{"0", "-0", "1.5", "0.1", "1e15", "1e14", "123456789012345", "1234567890123456", "1e-4", "1e-5", "0.00012345", "1e300", "-1e-300",
		"NaN", "Infinity", "-Infinity", "3.141592653589793", "2.2250738585072014e-308", "5e-324", "100000000000000000000"}},
	{"numeric", []string{"0", "0.00", "1", "-1", "10", "100", "1000", "10000", "100000", "123456789", "0.1", "0.0001", "0.00001", "12345.6789", "-12345.678900",
		"1e10", "1.5e-7", "99999999999999999999.9999999999", "NaN", "Infinity", "-Infinity", "1000000000000", "0.10000", "00012.50"}},
	{"text", []string{"", "hello", "grüße", "a\tb\nc", "\\x", "'\"", "日本語"}},
	{"varchar", []string{"", "x y"}},
	{"bpchar", []string{"abc"}},
	{"name", []string{"a_name"}},
	{"bytea", []string{"", "\\x", "\\x00ff10", "abc", "a\\\\b", "\\001\\377", "\\x AB cd"}},
	{"date", []string{"2024-02-29", "1970-01-01", "2000-01-01", "0001-01-01", "0044-03-15 BC", "infinity", "-infinity", "9999-12-31", "12345-01-02", "January 8, 1999", "1999-01-08"}},
	{"time", []string{"00:00:00", "23:59:59.999999", "12:30", "24:00:00", "04:05:06.789", "04:05 PM"}},
	{"timetz", []string{"12:30:00+00", "23:59:59.5-08", "04:05:06+05:30", "00:00:00+15:59"}},
	{"timestamp", []string{"2024-02-29 12:30:45", "2024-02-29 12:30:45.5", "1970-01-01 00:00:00", "1999-12-31 23:59:59.999999", "infinity", "-infinity",
		"2024-02-29T12:30:45", "2024-02-29", "0044-03-15 10:00:00 BC", "1900-01-01 00:00:01", "2024-02-29 12:30:45+05"}},
	{"timestamptz", []string{"2024-02-29 12:30:45+00", "2024-02-29 12:30:45.123456-08", "2024-02-29 12:30:45+05:30", "infinity", "-infinity", "2024-02-29 12:30:45", "2024-06-15T00:00:00Z"}},
	{"interval", []string{"0", "1 day", "-1 day", "1 year 2 mons 3 days 04:05:06.789", "-1 year -2 mons +3 days -04:05:06", "1 mon -1 day", "00:00:00.000001", "-00:00:01", "100:00:00",
		"1 year", "2 years", "-1 mons", "1 day -00:00:01", "-1 day 00:00:01", "36 months", "1.5 hours", "P1Y2M3DT4H5M6S"}},
	{"uuid", []string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}", "a0eebc999c0b4ef8bb6d6bb9bd380a11"}},
	{"inet", []string{"192.168.1.1", "192.168.0.0/16", "10.1.2.3/8", "::1", "2001:db8::/32", "2001:4f8:3:ba:2e0:81ff:fe22:d1f1", "0.0.0.0/0"}},
	{"varbit", []string{"", "0", "1", "10110", "11111111", "000000001", "1010101010101010101010101010101010101010101010101010101010101010101"}},
	{"jsonb", []string{"null", "true", "1", "-1.50", "1e3", "\"a\\u00e9\\n\"", "[]", "{}", "[1, \"a\", null]", "{\"b\": 1, \"a\": 2, \"aa\": 3}", "{\"a\": {\"b\": [1, {\"c\": null}]}}", "\"<>&\"", "\"\\u0001\\/\""}},
	{"oid", []string{"0", "1", "4294967295"}},
	{"int4[]", []string{"{}", "{1,2,3}", "{NULL,1}", " { 1 , 2 } "}},
	{"text[]", []string{"{}", "{a,b}", "{\"a b\",\"\",NULL,\"NULL\",\"a\\\\b\",\"q\\\"q\",\"x,y\",\"{}\"}", "{a b}"}},
	{"numeric[]", []string{"{1.50,-2,NaN}"}},
	{"timestamp[]", []string{"{\"2024-02-29 12:30:45\",infinity}"}},
	{"bool[]", []string{"{t,f,NULL}"}},
	{"uuid[]", []string{"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"}},
	{"bytea[]", []string{`{"\\x00ff",NULL}`}},
	{"jsonb[]", []string{`{"{\"a\": 1}",null}`}},
	{"float8[]", []string{"{1.5,Infinity,-0}"}},
	{"interval[]", []string{"{\"1 day\",\"00:00:01\"}"}},
}

// goldenErrors are texts that PostgreSQL refuses.
var goldenErrors = []struct {
	typ    string
	values []string
}{
	{"bool", []string{"", "x", "tr ue", "2", "o"}},
	{"int2", []string{"32768", "-32769"}},
	{"int4", []string{"", "abc", "1.5", "2147483648", "1e3", "0x10", "1_000", "--1"}},
	{"int8", []string{"9223372036854775808", " "}},
	{"float4", []string{"1e39"}},
	{"float8", []string{"", "x", "1e400", "1_0", "1e"}},
	{"numeric", []string{"", "x", "1.2.3", "1e", "--1", "1e200000"}},
	{"bytea", []string{"\\xz0", "\\x0", "\\9"}},
	{"date", []string{"", "x", "2024-02-30", "2024-13-01"}},
	{"time", []string{"x", "25:00:00"}},
	{"timestamp", []string{"", "x", "2024-02-30 00:00:00"}},
	{"timestamptz", []string{"x"}},
	{"interval", []string{"", "x", "1 foo"}},
	{"uuid", []string{"", "x", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a11"}},
	{"inet", []string{"", "x", "1.2.3.4/33", "1.2.3.4.5"}},
	{"varbit", []string{"2", "10x"}},
	{"jsonb", []string{"", "x", "{", "[1,]", "{\"a\":}", "'a'"}},
	{"oid", []string{"x", "4294967296"}},
	{"int4[]", []string{"", "1,2", "{1,2", "{1,,2}", "{x}", "{1}}", "{1} x"}},
	{"text[]", []string{"{\"a\"", "{a\"b}"}},
}
