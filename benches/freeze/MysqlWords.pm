# Lets pt-heartbeat 3.2.1 run unmodified on PostgreSQL: `perl -I benches/freeze -MMysqlWords pt-heartbeat --dbi-driver Pg ...`.
#
# With that driver it still says four things that only MySQL understands, whatever its options: USE, SHOW VARIABLES,
# SELECT @@server_id and SHOW CREATE TABLE. They are answered here. In what it says to the heartbeat's table, the quotes
# of MySQL are left out. Its schedule, its clock and its arithmetic are its own.
package MysqlWords;
use strict;
use warnings;
use DBI;

my %answer = (
    qr/^SHOW VARIABLES LIKE 'character_set_server'/ => sub { ( 'character_set_server', 'utf8' ) },
    qr/^SELECT \@\@server_id/                       => sub { (1) },
    qr/^SHOW CREATE TABLE/                          => sub {
        (   'heartbeat',
            "CREATE TABLE `heartbeat` (\n  `ts` varchar(26) NOT NULL,\n  `server_id` int NOT NULL,\n"
                . "  PRIMARY KEY (`server_id`)\n) ENGINE=InnoDB"
        );
    },
);

sub answered {
    my ($sql) = @_;
    for my $words ( keys %answer ) {
        return [ $answer{$words}->() ] if $sql =~ $words;
    }
    return;
}

my %own = map { $_ => DBI::db->can($_) } qw(do prepare selectrow_array selectrow_arrayref selectall_arrayref);

sub without_quotes {
    my ( $name, $dbh, $sql, @rest ) = @_;
    $sql =~ tr/`//d if !ref $sql;
    return $own{$name}->( $dbh, $sql, @rest );
}

no warnings 'redefine';
no strict 'refs';
*DBI::db::prepare            = sub { without_quotes( 'prepare',            @_ ) };
*DBI::db::selectall_arrayref = sub { without_quotes( 'selectall_arrayref', @_ ) };
*DBI::db::do                 = sub { $_[1] =~ /^USE / ? 1 : without_quotes( 'do', @_ ) };
*DBI::db::selectrow_array    = sub {
    my $row = answered( $_[1] );
    return $row ? @$row : without_quotes( 'selectrow_array', @_ );
};
*DBI::db::selectrow_arrayref = sub { answered( $_[1] ) // without_quotes( 'selectrow_arrayref', @_ ) };

1;
