<?php
/*
Plugin Name: Midcall badge
Description: [midcall_badge] shows which day of the block it is, and what Midcall's lab saw of each app's calls.
License: BSD-3-Clause
*/
if (!defined('ABSPATH')) {
    exit;
}

function midcall_badge() {
    $begin = new DateTimeImmutable('{{ badge.begin }}', new DateTimeZone('UTC'));
    $end = new DateTimeImmutable('{{ badge.end }}', new DateTimeZone('UTC'));
    $now = new DateTimeImmutable('now', new DateTimeZone('UTC'));
    if ($now < $begin) {
        $line = ($now->diff($begin)->days + 1) . ' days before the block';
    } elseif ($now < $end) {
        $line = 'Day ' . ($begin->diff($now)->days + 1) . ' of the block';
    } else {
        $line = 'Blocked for ' . $begin->diff($end)->days . ' days';
    }
    $rows = '';
    foreach (array(
{% for app in badge.apps %}        '{{ app.name|php|safe }}' => '{{ app.words|php|safe }}',
{% endfor %}    ) as $app => $said) {
        $rows .= '<tr><th scope="row">' . esc_html($app) . '</th><td>' . esc_html($said) . '</td></tr>';
    }
    $where = '{{ badge.operator|php|safe }}, {{ badge.access }}, from {{ badge.begin }}';
    $how = '{{ badge.statement|php|safe }}';
    $small = '{{ badge.small_print|php|safe }}';
    return '<div class="midcall-badge"><strong>' . esc_html($line) . '</strong><div>' . esc_html($where)
        . '</div><table>' . $rows . '</table><div>' . esc_html($how) . '</div><small>' . esc_html($small) . '</small></div>';
}
add_shortcode('midcall_badge', 'midcall_badge');
