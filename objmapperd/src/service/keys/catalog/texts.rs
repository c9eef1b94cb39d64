//! What is written about each command: for people who ask their client.

/// About one.
#[derive(Debug)]
pub(super) struct Text {
    name: &'static str,
    /// The Redis that had it first.
    pub(super) since: &'static str,
    /// What it is about, in the words of Redis.
    pub(super) group: &'static str,
    /// What it does.
    pub(super) summary: &'static str,
}

/// About this command.
pub(super) fn text(name: &str) -> Option<&'static Text> {
    let at = TEXTS.binary_search_by_key(&name, |text| text.name).ok()?;
    TEXTS.get(at)
}

macro_rules! texts {
    ($($name:literal $since:literal $group:literal $summary:literal;)*) => {
        &[$(Text { name: $name, since: $since, group: $group, summary: $summary }),*]
    };
}

/// In the order of their names.
static TEXTS: &[Text] = texts! {
    "acl" "6.0.0" "server" "A container for commands about who may do what";
    "acl|help" "6.0.0" "server" "Shows the subcommands";
    "acl|users" "6.0.0" "server" "Names all users: there is one";
    "acl|whoami" "6.0.0" "server" "Names the user of this connection";
    "append" "2.0.0" "string" "Adds bytes to the end of a value";
    "auth" "1.0.0" "connection" "Says the password";
    "bgrewriteaof" "1.0.0" "server" "Writes the journal anew, meanwhile";
    "bgsave" "1.0.0" "server" "Writes the journal anew, meanwhile";
    "client" "2.4.0" "connection" "A container for commands about connections";
    "client|getname" "2.6.9" "connection" "Tells the name of this connection";
    "client|help" "5.0.0" "connection" "Shows the subcommands";
    "client|id" "5.0.0" "connection" "Tells the number of this connection";
    "client|info" "6.2.0" "connection" "Tells what is known of this connection";
    "client|kill" "2.4.0" "connection" "Ends connections";
    "client|list" "2.4.0" "connection" "Tells what is known of all connections";
    "client|no-evict" "7.0.0" "connection" "Keeps this connection from being closed to make room, which none is";
    "client|no-touch" "7.2.0" "connection" "Makes reads of this connection count as no uses of keys";
    "client|reply" "3.2.0" "connection" "Chooses which commands are answered";
    "client|setinfo" "7.2.0" "connection" "Names the library that the client uses";
    "client|setname" "2.6.9" "connection" "Names this connection";
    "command" "2.8.13" "server" "Describes all commands";
    "command|count" "2.8.13" "server" "Counts the commands";
    "command|docs" "7.0.0" "server" "Tells what commands are for";
    "command|getkeys" "2.8.13" "server" "Tells which arguments of a command are keys";
    "command|help" "5.0.0" "server" "Shows the subcommands";
    "command|info" "2.8.13" "server" "Describes some commands";
    "command|list" "7.0.0" "server" "Names all commands";
    "config" "2.0.0" "server" "A container for commands about settings";
    "config|get" "2.0.0" "server" "Tells settings whose names fit a pattern";
    "config|help" "5.0.0" "server" "Shows the subcommands";
    "config|resetstat" "2.0.0" "server" "Begins to count anew";
    "config|rewrite" "2.8.0" "server" "Writes settings into the file they came from, which this daemon does not";
    "config|set" "2.0.0" "server" "Changes settings until the daemon stops";
    "copy" "6.2.0" "generic" "Copies a value to another key";
    "dbsize" "1.0.0" "server" "Counts the keys of a database";
    "debug" "1.0.0" "server" "Changes how the daemon works, for tests";
    "decr" "1.0.0" "string" "Takes one from a number";
    "decrby" "1.0.0" "string" "Takes something from a number";
    "del" "1.0.0" "generic" "Removes keys";
    "discard" "2.0.0" "transactions" "Forgets what was queued";
    "echo" "1.0.0" "connection" "Answers with what was said";
    "exec" "1.2.0" "transactions" "Does what was queued, all at once";
    "exists" "1.0.0" "generic" "Counts those of some keys that are there";
    "expire" "1.0.0" "generic" "Sets after how many seconds a key ends";
    "expireat" "1.2.0" "generic" "Sets the second at which a key ends";
    "expiretime" "7.0.0" "generic" "Tells the second at which a key ends";
    "flushall" "1.0.0" "server" "Removes all keys of all databases";
    "flushdb" "1.0.0" "server" "Removes all keys of a database";
    "get" "1.0.0" "string" "Gives a value";
    "getdel" "6.2.0" "string" "Gives a value and removes its key";
    "getex" "6.2.0" "string" "Gives a value and sets when its key ends";
    "getrange" "2.4.0" "string" "Gives a part of a value";
    "getset" "1.0.0" "string" "Sets a value and gives the one before";
    "hello" "6.0.0" "connection" "Chooses the version of the protocol";
    "incr" "1.0.0" "string" "Adds one to a number";
    "incrby" "1.0.0" "string" "Adds something to a number";
    "incrbyfloat" "2.6.0" "string" "Adds something to a number that need not be whole";
    "info" "1.0.0" "server" "Tells about the daemon";
    "keys" "1.0.0" "generic" "Gives all keys that fit a pattern";
    "lastsave" "1.0.0" "server" "Tells when the journal was written anew last";
    "latency" "2.8.13" "server" "A container for commands about latencies";
    "latency|doctor" "2.8.13" "server" "Says where to look for latencies";
    "latency|help" "2.8.13" "server" "Shows the subcommands";
    "latency|history" "2.8.13" "server" "Gives what was recorded of an event: nothing";
    "latency|latest" "2.8.13" "server" "Gives what was recorded last: nothing";
    "latency|reset" "2.8.13" "server" "Forgets what was recorded: nothing";
    "lcs" "7.0.0" "string" "Finds the longest common subsequence of two values";
    "memory" "4.0.0" "server" "A container for commands about memory";
    "memory|doctor" "4.0.0" "server" "Says in words how full it is";
    "memory|help" "4.0.0" "server" "Shows the subcommands";
    "memory|purge" "4.0.0" "server" "Gives memory back, which is done at once anyway";
    "memory|stats" "4.0.0" "server" "Says in figures how full it is";
    "memory|usage" "4.0.0" "server" "Tells how many bytes a key takes";
    "mget" "1.0.0" "string" "Gives some values";
    "module" "4.0.0" "server" "A container for commands about modules";
    "module|help" "5.0.0" "server" "Shows the subcommands";
    "module|list" "4.0.0" "server" "Names all modules: there is none";
    "move" "1.0.0" "generic" "Moves a key to another database";
    "mset" "1.0.1" "string" "Sets some values";
    "msetnx" "1.0.1" "string" "Sets some values if none of the keys is there";
    "multi" "1.2.0" "transactions" "Queues what follows";
    "object" "2.2.3" "generic" "A container for commands about what is kept of keys";
    "object|encoding" "2.2.3" "generic" "Tells how a value is kept";
    "object|freq" "4.0.0" "generic" "Tells how often a key is used";
    "object|help" "6.2.0" "generic" "Shows the subcommands";
    "object|idletime" "2.2.3" "generic" "Tells how long ago a key was used";
    "object|refcount" "2.2.3" "generic" "Tells how many share a value";
    "persist" "2.2.0" "generic" "Lets a key not end by itself";
    "pexpire" "2.6.0" "generic" "Sets after how many milliseconds a key ends";
    "pexpireat" "2.6.0" "generic" "Sets the millisecond at which a key ends";
    "pexpiretime" "7.0.0" "generic" "Tells the millisecond at which a key ends";
    "ping" "1.0.0" "connection" "Answers";
    "psetex" "2.6.0" "string" "Sets a value and after how many milliseconds its key ends";
    "pttl" "2.6.0" "generic" "Tells how many milliseconds a key has left";
    "quit" "1.0.0" "connection" "Ends the connection";
    "randomkey" "1.0.0" "generic" "Gives a key, any";
    "rename" "1.0.0" "generic" "Gives a key another name";
    "renamenx" "1.0.0" "generic" "Gives a key another name that is free";
    "reset" "6.2.0" "connection" "Makes the connection what it was at first";
    "role" "2.8.12" "server" "Tells the part in a replication, of which there is none";
    "save" "1.0.0" "server" "Writes the journal anew";
    "scan" "2.8.0" "generic" "Goes through all keys in steps";
    "select" "1.0.0" "connection" "Chooses the database";
    "set" "1.0.0" "string" "Sets a value";
    "setex" "2.0.0" "string" "Sets a value and after how many seconds its key ends";
    "setnx" "1.0.0" "string" "Sets a value if the key is not there";
    "setrange" "2.2.0" "string" "Writes over a part of a value";
    "shutdown" "1.0.0" "server" "Stops the daemon";
    "slowlog" "2.2.12" "server" "A container for commands about slow commands";
    "slowlog|get" "2.2.12" "server" "Gives commands that took long, the newest first";
    "slowlog|help" "6.2.0" "server" "Shows the subcommands";
    "slowlog|len" "2.2.12" "server" "Counts them";
    "slowlog|reset" "2.2.12" "server" "Forgets them";
    "strlen" "2.2.0" "string" "Tells how long a value is";
    "substr" "1.0.0" "string" "Gives a part of a value";
    "time" "2.6.0" "server" "Tells the time";
    "touch" "3.2.1" "generic" "Uses keys";
    "ttl" "1.0.0" "generic" "Tells how many seconds a key has left";
    "type" "1.0.0" "generic" "Tells the type of a value";
    "unlink" "4.0.0" "generic" "Removes keys";
    "unwatch" "2.2.0" "transactions" "Watches no key any more";
    "waitaof" "7.2.0" "generic" "Waits until what was written is on disk";
    "watch" "2.2.0" "transactions" "Lets a transaction fail if a key changes before";
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_in_order() {
        assert!(TEXTS.is_sorted_by(|one, other| one.name < other.name));
    }
}
