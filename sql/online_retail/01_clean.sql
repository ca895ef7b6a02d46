-- Online Retail, 1 of 6: from raw invoice lines to a shop.
--
-- Question  What is in the file, what of it can be trusted, and what does the shop look like once the rest is gone?
-- Reads     online_retail_raw: cohort import online_retail_raw online_retail.csv
-- Writes    cleaning_report, customers, products, orders, order_lines, interactions: the tables of the demo shop,
--           as far as the data has them (no customer names, no product categories)
-- Result    cleaning_report: every raw line is counted once, under the first rule that it breaks. n_rows adds up to
--           the 541,909 lines of the file and amount to their 9,747,747.93 pounds, so nothing is lost on the way.
--
-- Run it again whenever you like: everything is CREATE OR REPLACE.

-- 1. Clean types and one verdict a line. StockCode appears as 85123A and 85123a: the same product, so upper().
--    Products have five digits first (85123A); DCGS… and PADS are products, too. What is left are postage, fees,
--    vouchers, samples, discounts and corrections by hand.
CREATE OR REPLACE TABLE checked_lines AS
WITH typed AS (
    SELECT
        "InvoiceNo"                                AS invoice_no,
        upper(trim("StockCode"))                   AS product_id,
        nullif(trim("Description"), '')            AS description,
        CAST("Quantity" AS int)                    AS quantity,
        "InvoiceDate"                              AS invoice_ts,
        CAST("UnitPrice" AS numeric(12, 2))        AS unit_price,
        CAST("CustomerID" AS bigint)               AS customer_id,
        trim("Country")                            AS country,
        "Quantity" * "UnitPrice"                   AS raw_amount,
        -- The same line twice in one invoice, equal in every column: the second is a duplicate.
        row_number() OVER (
            PARTITION BY "InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"
            ORDER BY "InvoiceNo")                  AS copy
    FROM online_retail_raw
)
SELECT
    *,
    CASE
        WHEN invoice_no LIKE 'C%'                              THEN '1 cancellation (invoice number begins with C)'
        WHEN NOT regexp_like(invoice_no, '^[0-9]{6}$')         THEN '2 bookkeeping entry (invoice number is not six digits)'
        WHEN NOT regexp_like(product_id, '^([0-9]{5}|DCGS|PADS)') THEN '3 not a product (postage, fees, vouchers, by hand)'
        WHEN quantity <= 0                                     THEN '4 quantity is not positive (lost, damaged, counted anew)'
        WHEN unit_price <= 0                                   THEN '5 price is not positive (gifts, corrections)'
        WHEN customer_id IS NULL                               THEN '6 customer is not known'
        WHEN copy > 1                                          THEN '7 exact duplicate of a line above'
        ELSE '8 kept'
    END AS verdict
FROM typed;

-- 2. What was dropped, and why.
CREATE OR REPLACE TABLE cleaning_report AS
SELECT
    verdict                                         AS reason,
    count(*)                                        AS n_rows,
    CAST(sum(raw_amount) AS numeric(12, 2))         AS amount
FROM checked_lines
GROUP BY verdict;

-- 3. Orders: one row an invoice. A few invoices run over two minutes; the first counts.
CREATE OR REPLACE TABLE order_lines AS
SELECT CAST(invoice_no AS bigint) AS order_id, product_id, quantity, unit_price
FROM checked_lines
WHERE verdict = '8 kept'
ORDER BY order_id, product_id;

CREATE OR REPLACE TABLE orders AS
SELECT
    CAST(invoice_no AS bigint)                            AS order_id,
    customer_id,
    min(invoice_ts)                                       AS order_ts,
    CAST(sum(quantity * unit_price) AS numeric(12, 2))    AS amount
FROM checked_lines
WHERE verdict = '8 kept'
GROUP BY invoice_no, customer_id
ORDER BY order_id;

-- 4. Interactions: what was bought and, from the cancellations of customers we kept, what was sent back.
CREATE OR REPLACE TABLE interactions AS
WITH happened AS (
    SELECT customer_id, product_id, 'purchase' AS event_type, invoice_ts AS event_ts, quantity
    FROM checked_lines
    WHERE verdict = '8 kept'
    UNION ALL
    SELECT customer_id, product_id, 'return', invoice_ts, -quantity
    FROM checked_lines
    WHERE verdict LIKE '1 %' AND copy = 1
      AND regexp_like(product_id, '^([0-9]{5}|DCGS|PADS)')
      AND customer_id IN (SELECT customer_id FROM orders)
)
SELECT
    CAST(row_number() OVER (ORDER BY event_ts, customer_id, product_id, event_type, quantity) AS bigint) AS interaction_id,
    customer_id, product_id, event_type, event_ts, quantity
FROM happened
ORDER BY interaction_id;

-- 5. Customers: the country of the latest order; lifetime_value is what was bought less what was sent back.
--    signup_ts is the first order, since the data knows no earlier day.
CREATE OR REPLACE TABLE customers AS
WITH bought AS (
    SELECT customer_id, min(order_ts) AS signup_ts, sum(amount) AS amount
    FROM orders
    GROUP BY customer_id
),
sent_back AS (
    SELECT customer_id, sum(-quantity * unit_price) AS amount
    FROM checked_lines
    WHERE verdict LIKE '1 %' AND copy = 1 AND regexp_like(product_id, '^([0-9]{5}|DCGS|PADS)')
    GROUP BY customer_id
),
latest AS (
    SELECT customer_id, country, row_number() OVER (PARTITION BY customer_id ORDER BY invoice_ts DESC, invoice_no DESC) AS place
    FROM checked_lines
    WHERE verdict = '8 kept'
)
SELECT
    b.customer_id,
    l.country,
    b.signup_ts,
    CAST(b.amount - coalesce(s.amount, 0) AS numeric(12, 2)) AS lifetime_value
FROM bought b
JOIN latest l ON l.customer_id = b.customer_id AND l.place = 1
LEFT JOIN sent_back s ON s.customer_id = b.customer_id
ORDER BY b.customer_id;

-- 6. Products: the name that was written most often, the median of the prices paid, and every name it ever had.
CREATE OR REPLACE TABLE products AS
WITH named AS (
    SELECT product_id, description, count(*) AS n_lines,
           row_number() OVER (PARTITION BY product_id ORDER BY count(*) DESC, description) AS place
    FROM checked_lines
    WHERE verdict = '8 kept' AND description IS NOT NULL
    GROUP BY product_id, description
),
priced AS (
    SELECT product_id, CAST(median(unit_price) AS numeric(12, 2)) AS price
    FROM checked_lines
    WHERE verdict = '8 kept'
    GROUP BY product_id
)
SELECT
    p.product_id,
    max(CASE WHEN n.place = 1 THEN n.description END)   AS name,
    p.price,
    string_agg(n.description, '; ' ORDER BY n.place)    AS description
FROM priced p
LEFT JOIN named n ON n.product_id = p.product_id
GROUP BY p.product_id, p.price
ORDER BY p.product_id;

-- 7. The account: every line of the file is in exactly one row.
SELECT reason, n_rows, CAST(100.0 * n_rows / sum(n_rows) OVER () AS numeric(5, 1)) AS percent, amount
FROM cleaning_report
ORDER BY reason;
