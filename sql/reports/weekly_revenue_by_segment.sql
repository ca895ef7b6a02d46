-- Weekly revenue by segment.
--
-- Question  Who brings in the money, week by week?
-- Reads     orders
-- Result    one row a week (Monday first) for the last 26 whole weeks, the latest first: revenue, and how much of it came
--           from which customers. The four columns add up to revenue. A customer belongs to the tier that they had
--           at the beginning of those weeks (customers who came later are newcomers), so that the sums say what known groups
--           did afterwards; tiers taken today would only show that good customers are those who have bought.

WITH weeks AS (
    -- The week of the latest order has not ended yet.
    SELECT date_trunc('week', max(order_ts))                            AS end_ts,
           date_trunc('week', max(order_ts)) - INTERVAL '182 days'      AS start_ts
    FROM orders
),
tiers AS (
    SELECT customer_id, tier
    FROM rfm((SELECT customer_id, order_ts, amount FROM orders),
             as_of => (SELECT date_trunc('week', max(order_ts)) - INTERVAL '182 days' FROM orders))
)
SELECT
    CAST(date_trunc('week', o.order_ts) AS date)                                                                    AS week,
    count(*)                                                                                                        AS orders,
    sum(o.amount)                                                                                                   AS revenue,
    sum(CASE WHEN t.tier IN ('Champions', 'Loyal Customers') THEN o.amount ELSE 0 END)                              AS best,
    sum(CASE WHEN t.tier IN ('Potential Loyalists', 'New Customers', 'Promising', 'Need Attention') THEN o.amount ELSE 0 END) AS growing,
    sum(CASE WHEN t.tier IN ('About To Sleep', 'At Risk', 'Can''t Lose Them', 'Hibernating') THEN o.amount ELSE 0 END)        AS fading,
    sum(CASE WHEN t.tier IS NULL THEN o.amount ELSE 0 END)                                                          AS newcomers
FROM orders o
CROSS JOIN weeks w
LEFT JOIN tiers t ON t.customer_id = o.customer_id
WHERE o.order_ts >= w.start_ts AND o.order_ts < w.end_ts
GROUP BY date_trunc('week', o.order_ts)
ORDER BY week DESC;
