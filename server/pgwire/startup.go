package pgwire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql"
)

// Codes that stand where a startup packet has its protocol version.
const (
	protocol3     = 3 << 16
	codeCancel    = 1234<<16 | 5678
	codeTLS       = 1234<<16 | 5679
	codeGSSEncode = 1234<<16 | 5680
)

// maxStartupBytes is PostgreSQL's limit for a startup packet.
const maxStartupBytes = 10000

// defaultDatabase is where a client goes that names none. PostgreSQL takes the
// name of the user, which seldom is one of a database here.
const defaultDatabase = "defaultdb"

// errGone ends a connection without a word: the client wants or gets no answer.
var errGone = errors.New("connection is done")

// ClientInfo is what a client said of itself before it was let in.
type ClientInfo struct {
	User, Database string
	RemoteAddr     string
	Parameters     map[string]string
}

// startup negotiates until the client is authenticated and has a session. An
// error of type *pgerr.Error has not been sent yet.
func (c *conn) startup(ctx context.Context, full bool) error {
	params, err := c.startupPacket(ctx)
	if err != nil {
		return err
	}
	args, err := sessionArgs(params)
	if err != nil {
		return err
	}
	args.RemoteAddr = c.nc.RemoteAddr().String()
	if c.srv.isDraining() {
		return errNotAccepting
	}
	if full {
		return errTooMany
	}
	info := ClientInfo{User: args.User, Database: args.Database, RemoteAddr: args.RemoteAddr, Parameters: params}
	if err := c.srv.cfg.Authenticate(ctx, info); err != nil {
		return err
	}
	c.w.send(&pgproto3.AuthenticationOk{})

	args.Notify, args.Disconnect = c.parameterChanged, c.terminate
	sess, err := c.srv.cfg.NewSession(ctx, args)
	if err != nil {
		return err
	}
	c.sess = sess
	c.cancelable.Store(&sess)
	c.started = true
	reported := sess.ReportedParameters()
	for _, name := range slices.Sorted(maps.Keys(reported)) {
		c.w.parameterStatus(name, reported[name])
	}
	c.srv.register(c)
	at := c.w.begin('K')
	c.w.int32(int32(c.cancelKey.pid))
	c.w.int32(int32(c.cancelKey.secret))
	c.w.end(at)
	c.w.readyForQuery(sess.TxnStatus())
	return c.w.flush()
}

// startupPacket answers requests for encryption until the real startup packet
// comes. A cancel request is carried out here and ends the connection.
func (c *conn) startupPacket(ctx context.Context) (map[string]string, error) {
	for range 3 {
		head, err := c.r.Next(4)
		if err != nil {
			return nil, errGone
		}
		n := int(int32(binary.BigEndian.Uint32(head))) - 4
		if n < 4 || n > maxStartupBytes {
			return nil, pgerr.New(pgerr.ProtocolViolation, "invalid length of startup packet")
		}
		body, err := c.r.Next(n)
		if err != nil {
			return nil, errGone
		}
		switch code := binary.BigEndian.Uint32(body); {
		case code == codeTLS || code == codeGSSEncode:
			// Bytes behind the request would be read as if they had been encrypted.
			if c.r.buffered() {
				return nil, pgerr.New(pgerr.ProtocolViolation, "received unencrypted data after SSL request")
			}
			if _, err := c.nc.Write([]byte{'N'}); err != nil {
				return nil, errGone
			}
		case code == codeCancel:
			if n >= 12 {
				c.srv.cancel(ctx, cancelKey{binary.BigEndian.Uint32(body[4:]), binary.BigEndian.Uint32(body[8:])})
			}
			return nil, errGone
		case code>>16 == 3:
			return c.decodeStartup(body, code)
		default:
			return nil, pgerr.Newf(pgerr.FeatureNotSupported,
				"unsupported frontend protocol %d.%d: server supports 3.0 to 3.0", code>>16, code&0xffff)
		}
	}
	return nil, pgerr.New(pgerr.ProtocolViolation, "too many requests for encryption")
}

// decodeStartup reads the parameters. A client that would like a newer minor
// version, or protocol options, is told that it gets 3.0 without them.
func (c *conn) decodeStartup(body []byte, code uint32) (map[string]string, error) {
	binary.BigEndian.PutUint32(body, protocol3)
	params := map[string]string{}
	if len(body) > 5 {
		var msg pgproto3.StartupMessage
		if err := decodeSafely(&msg, body); err != nil {
			return nil, pgerr.New(pgerr.ProtocolViolation, "invalid startup packet layout: expected terminator as last byte")
		}
		params = msg.Parameters
	}
	var unknown []string
	for name := range params {
		if strings.HasPrefix(name, "_pq_.") {
			unknown = append(unknown, name)
			delete(params, name)
		}
	}
	if code != protocol3 || len(unknown) > 0 {
		at := c.w.begin('v')
		c.w.int32(protocol3)
		c.w.int32(int32(len(unknown)))
		for _, name := range unknown {
			c.w.cstring(name)
		}
		c.w.end(at)
	}
	return params, nil
}

// decodeSafely decodes a message body; pgproto3 may panic on malformed ones.
func decodeSafely(msg pgproto3.FrontendMessage, body []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("malformed message: %v", r)
		}
	}()
	return msg.Decode(body)
}

// sessionArgs sorts startup parameters into what sql knows.
func sessionArgs(params map[string]string) (sql.SessionArgs, error) {
	args := sql.SessionArgs{
		User: params["user"], Database: params["database"], ApplicationName: params["application_name"],
		Options: map[string]string{},
	}
	if args.User == "" {
		return args, pgerr.New("28000", "no PostgreSQL user name specified in startup packet")
	}
	if args.Database == "" {
		args.Database = defaultDatabase
	}
	if r := params["replication"]; r != "" && r != "false" && r != "off" && r != "0" {
		return args, pgerr.New(pgerr.FeatureNotSupported, "replication connections are not supported")
	}
	for name, value := range params {
		switch name {
		case "user", "database", "replication", "options":
		default:
			args.Options[name] = value
		}
	}
	return args, parseOptions(params["options"], args.Options)
}

// parseOptions reads the command-line form of settings: "-c name=value",
// "--name=value", words separated by blanks, a backslash before a blank that
// belongs to the value.
func parseOptions(text string, into map[string]string) error {
	var words []string
	var word strings.Builder
	inWord := false
	for i := 0; i < len(text); i++ {
		switch ch := text[i]; {
		case ch == '\\' && i+1 < len(text):
			i++
			word.WriteByte(text[i])
			inWord = true
		case ch == ' ' || (ch >= '\t' && ch <= '\r'):
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(ch)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "-c" && i+1 < len(words):
			i++
			w = words[i]
		case strings.HasPrefix(w, "-c"):
			w = w[2:]
		case strings.HasPrefix(w, "--"):
			w = w[2:]
		default:
			return pgerr.Newf(pgerr.SyntaxError, "invalid command-line argument for server process: %s", w)
		}
		name, value, ok := strings.Cut(w, "=")
		if !ok || name == "" {
			return pgerr.Newf(pgerr.SyntaxError, "-c %s requires a value", w)
		}
		name = strings.ReplaceAll(name, "-", "_")
		if name == "cluster" {
			continue // names the tenant elsewhere; there is one cluster here
		}
		if unescaped, err := url.PathUnescape(value); err == nil && strings.Contains(value, "%20") {
			value = unescaped
		}
		into[name] = value
	}
	return nil
}

// loginDeadline bounds the time until the client is let in.
func (c *conn) loginDeadline(d time.Duration) { _ = c.nc.SetReadDeadline(time.Now().Add(d)) }
